/** dstack-attestor: no arguments; the unit that starts it is measured, and so is the flavour that decides where the hardware is. */
import { kernelFiles, platformRoot } from './platform-files.ts';
import { powerOff } from './power-off.ts';
import { runAttestor } from './run.ts';

runAttestor({ root: '', platformFiles: (flavour) => kernelFiles(platformRoot(flavour)), powerOff });
