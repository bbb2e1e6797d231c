import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App, createStore } from './app';
import { StoreContext } from './stream/hooks';
import './style.css';

const store = createStore();
store.start();

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <StoreContext value={store}>
      <App />
    </StoreContext>
  </StrictMode>,
);
