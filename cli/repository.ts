/** The folder of this repository, for what commands find and leave in it. */
import { resolve } from 'node:path';

export const repository = resolve(import.meta.dirname, '..');
