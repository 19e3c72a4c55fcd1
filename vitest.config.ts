import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{contracts,guest,host,lib,cli,auditing,app-example,test}/**/*.test.ts'],
    exclude: ['test/vm/**', 'node_modules/**'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
