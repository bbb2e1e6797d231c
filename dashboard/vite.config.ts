import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// The shards serve dist/ at `/`. In development the page comes from Vite and the events from a
// running server; loopback origins of any port may connect to it, but one origin is simpler.
export default defineConfig({
  plugins: [react()],
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: {
    proxy: { '/v1': process.env['SHARDCAST_URL'] ?? 'http://127.0.0.1:8000' },
  },
});
