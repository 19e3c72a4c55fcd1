/** `npm run package`: makes the package for authors, a tarball in build/. */
import { makePackage } from '../cli/dev/package.ts';
import { print } from '../lib/daemon/terminal.ts';

print(await makePackage());
