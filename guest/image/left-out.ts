/** What the daemons' bundles do without: parts of dependencies that no daemon ever calls, but that cost much to load. */
import type { Plugin } from 'esbuild';

/**
 * dockerode loads these for a remote engine over SSH (ssh2), for BuildKit sessions (grpc, protobuf) and for packing a
 * build context (tar-fs, dockerignore). The guest speaks to a local socket and builds nothing.
 */
const UNUSED = [
  'ssh2',
  '@grpc/grpc-js',
  '@grpc/proto-loader',
  'protobufjs',
  'tar-fs',
  '@balena/dockerignore',
] as const;

/** In the place of an unused package: any part of it may be named, none may be used. */
const standIn = (name: string): string => `
const refuse = () => { throw new Error(${JSON.stringify(`${name} is not in the guest image`)}); };
const nothing = new Proxy(function () {}, { get: () => nothing, apply: refuse, construct: refuse });
module.exports = nothing;
`;

/** An esbuild plugin that puts stand-ins for them into a bundle. */
export const leftOut: Plugin = {
  name: 'left-out',
  setup(build) {
    build.onResolve({ filter: new RegExp(`^(${UNUSED.join('|')})$`) }, ({ path }) => ({
      path,
      namespace: 'left-out',
    }));
    build.onLoad({ filter: /.*/, namespace: 'left-out' }, ({ path }) => ({ contents: standIn(path) }));
  },
};
