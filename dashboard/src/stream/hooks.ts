/** The stream as React state. */
import { createContext, useCallback, useContext, useSyncExternalStore } from 'react';
import type { Channel, Link, LiveStore } from './store';

export const StoreContext = createContext<LiveStore | undefined>(undefined);

export function useStore(): LiveStore {
  const store = useContext(StoreContext);
  if (!store) throw new Error('StoreContext is missing above this component');
  return store;
}

/** A channel's newest state. Renders only when something arrived. */
export function useChannel(name: string): Channel {
  const store = useStore();
  const snapshot = useCallback(() => store.channel(name), [store, name]);
  return useSyncExternalStore(store.subscribe, snapshot);
}

/** The connection's state. */
export function useLink(): Link {
  const store = useStore();
  return useSyncExternalStore(store.subscribe, store.link);
}

const TICK_MS = 500;

function subscribeToTicks(listener: () => void): () => void {
  const timer = setInterval(listener, TICK_MS);
  return () => clearInterval(timer);
}

const tick = () => Math.floor(Date.now() / TICK_MS) * TICK_MS;

/** The time in half seconds: ages grow while nothing arrives, which is when they matter. */
export function useNow(): number {
  return useSyncExternalStore(subscribeToTicks, tick);
}
