import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'processes',
          include: ['{contracts,guest,host,lib,cli,auditing,app-example,bench,scripts,test}/**/*.test.ts'],
          exclude: ['**/*.vm.test.ts', '**/node_modules/**'],
          // Only what hangs takes so long, on a slow machine that has other work too. What waits for an event says what it waited for before.
          testTimeout: 240_000,
          hookTimeout: 300_000,
          expect: { poll: { timeout: 60_000 } },
          // They mostly wait for processes of their own; by default a machine of two processors would run one file at a time.
          maxWorkers: Math.max(4, availableParallelism() - 1),
        },
      },
      {
        // Machines that share two cores: nothing else runs beside them.
        test: {
          name: 'vm',
          include: ['test/vm/{network,platform,root-image,flavours,machine-tables}.vm.test.ts'],
          testTimeout: 900_000,
          hookTimeout: 300_000,
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
      {
        // By hand, `npm run test:app`: an app that attacks its node while the website's visitors ask, one with the ecosystem's client, and rollouts that are
        // killed at each step, and the pages for an app's author.
        test: {
          name: 'app',
          include: ['test/vm/{hostile-app,agent-sdk,killed-rollout,app-pages}.vm.test.ts'],
          fileParallelism: false,
        },
      },
      {
        // By hand, `npm run test:store`: an app in a container that keeps what it has in its node's store.
        test: { name: 'store', include: ['test/vm/store.vm.test.ts'] },
      },
      {
        // By hand, `npm run test:auction`: an app of the framework in a container of two VMs, asked by its host and by visitors.
        test: { name: 'auction', include: ['test/vm/auction.vm.test.ts'] },
      },
      {
        // By hand, `npm run test:signer`: a validator's side on the host, and the signer in a VM that is killed.
        test: { name: 'signer', include: ['test/vm/signer.vm.test.ts'] },
      },
      {
        // By hand, `npm run test:site`: certificates of a real authority, in some twenty minutes.
        test: { name: 'site', include: ['test/vm/site.vm.test.ts'] },
      },
    ],
  },
});
