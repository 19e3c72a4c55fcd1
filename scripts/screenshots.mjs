/**
 * `npm run screenshots`: does all set-up, then takes the pictures of both pages that the docs show, from a running relay and the running
 * greeting app. Plain JavaScript without dependencies, up to the last line.
 */
import { join } from 'node:path';
import {
  buildTools,
  installBrowser,
  installDebianPackages,
  installNpmPackages,
  node24,
  root,
  run,
} from './set-up.mjs';

installDebianPackages();
installNpmPackages();
installBrowser();
buildTools();
run(node24, ['--disable-warning=ExperimentalWarning', join(root, 'scripts/screenshots/take.ts')]);
