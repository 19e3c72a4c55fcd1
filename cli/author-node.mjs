#!/usr/bin/env -S node --
// `npx dstack` of the package for authors: in words that any Node reads, whether this one is new enough. The package has it as dstack.js.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `dstack: NODE_VERSION: this is Node ${process.versions.node}, and it takes 22.18 or later: install that, or name it first in PATH`,
  );
  process.exit(1);
}
// The TypeScript of apps is run as it is, which needs no warning at each start.
const { emitWarning } = process;
process.emitWarning = (warning, ...more) => {
  if ((more[0]?.type ?? more[0]) !== 'ExperimentalWarning') emitWarning.call(process, warning, ...more);
};
await import('./main.js');
