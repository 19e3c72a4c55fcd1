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
        // Machines that share two cores: nothing else runs beside them.
        test: {
          name: 'vm',
          include: ['test/vm/{network,platform,root-image,flavours,machine-tables}.vm.test.ts'],
          testTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        // By hand, `npm run test:disk`: boots of their own, and minutes of bad blocks and power cuts.
        test: {
          name: 'disk',
          include: ['test/vm/{disk,power-cut}.vm.test.ts'],
          fileParallelism: false,
        },
      },
    ],
  },
});
