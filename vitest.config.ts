import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'processes',
          include: ['{contracts,guest,host,lib,cli,auditing,app-example,scripts,test}/**/*.test.ts'],
          exclude: ['**/*.vm.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Two machines that share two cores: nothing else runs beside them.
        test: { name: 'vm', include: ['test/vm/network.vm.test.ts'], testTimeout: 300_000 },
      },
      {
        // By hand, `npm run test:disk`: a boot of its own, and minutes of bad blocks.
        test: { name: 'disk', include: ['test/vm/disk.vm.test.ts'] },
      },
    ],
  },
});
