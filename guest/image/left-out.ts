/**
 * Packages that a daemon's bundle leaves out: its dependencies import them, but it never calls them, and they are expensive to
 * load. ../daemons.ts lists them for each daemon; other bundles have the real ones.
 */
import type { Plugin } from 'esbuild';

/** Takes the place of a package that is left out: any part of it may be imported, but using one throws LEFT_OUT. */
const standIn = (name: string): string => `
const refuse = () => {
  const message = ${JSON.stringify(`${name} is left out of this daemon's bundle, and was called: see guest/daemons.ts`)};
  throw Object.assign(new Error(message), { code: 'LEFT_OUT' });
};
const get = (_, name) => (name === '__esModule' ? false : nothing);
const nothing = new Proxy(function () {}, { get, apply: refuse, construct: refuse });
module.exports = nothing;
`;

/** An esbuild plugin that puts stand-ins for these packages into a bundle. */
export function leaveOut(packages: readonly string[]): Plugin {
  return {
    name: 'left-out',
    setup(build) {
      if (packages.length === 0) return;
      build.onResolve({ filter: new RegExp(`^(${packages.join('|')})$`) }, ({ path }) => ({
        path,
        namespace: 'left-out',
      }));
      build.onLoad({ filter: /.*/, namespace: 'left-out' }, ({ path }) => ({ contents: standIn(path) }));
    },
  };
}
