/** The framework for authors of apps: what a contract's requests, its hosts and an author's own code can do to the line. */
import { type Mutation, one } from '../mutation.ts';

const CONTRACT = 'contracts/EnclaveApp.sol';
const ROUTER = 'lib/framework/app/router.ts';
const STORE = 'lib/framework/app/typed-store.ts';
const SETTINGS = 'lib/framework/app/settings.ts';
const LINE = 'lib/framework/host/app-line.ts';
const contract = 'test/framework/contract.test.ts';
const router = 'lib/framework/app/router.test.ts';
const store = 'lib/framework/app/typed-store.test.ts';
const settings = 'lib/framework/app/settings.test.ts';
const line = 'lib/framework/host/app-line.test.ts';

export const frameworkAuthorRules: readonly Mutation[] = [
  one(
    'framework',
    'that nothing is settled in the middle of another settlement',
    [CONTRACT, 'if (_settling) revert Settling();', ''],
    [contract, '^what an app calls'],
  ),
  one(
    'framework',
    'the gas that whoever settles has to leave the app',
    [CONTRACT, 'if (gasleft() < needed) revert GasTooLow(needed);', ''],
    [contract, '^whoever settles can not'],
  ),
  one(
    'framework',
    'the bound on requests that wait for their turn',
    [ROUTER, 'if (this.#waiting >= WAITING_MAX)', 'if (this.#waiting < 0)'],
    [router, '^no more wait'],
  ),
  one(
    'framework',
    'that a key of a store is a text',
    [STORE, '!key.isWellFormed() || ', ''],
    [store, '^a key is a text of its own'],
  ),
  one(
    'framework',
    'that an endpoint counts once for the quorum',
    [
      SETTINGS,
      'if (new Set(urls.map((url) => new URL(url).href)).size < urls.length)',
      'if (urls.length === 0)',
    ],
    [settings, '^the enclave does not start with RPC_URLS'],
  ),
  one(
    'framework',
    'the search for a request that an endpoint kept back, or the store lost',
    [LINE, 'const found = await this.#search.find(hash);', 'const found = undefined;'],
    [line, '^an endpoint that once says'],
  ),
  one(
    'framework',
    'that a kind is no property of every object',
    [LINE, 'Object.hasOwn(assemble, kind) ? assemble[kind] : undefined', 'assemble[kind]'],
    [line, '^a kind is no property'],
  ),
];
