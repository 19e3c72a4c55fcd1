/**
 * How bundles reach Node's own modules. `import … from 'node:http'` in an ES module makes Node read every export once to
 * list them, and behind some of those are getters that load whole subsystems (node:http's WebSocket loads undici). Asking
 * for the module as an object loads what is used.
 */
import { isBuiltin } from 'node:module';
import type { Plugin } from 'esbuild';

export const builtins: Plugin = {
  name: 'builtins',
  setup(build) {
    build.onResolve({ filter: /^[a-z_]+(\/[a-z_]+)*$|^node:/ }, ({ path }) =>
      isBuiltin(path) ? { path, namespace: 'builtins' } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'builtins' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};
