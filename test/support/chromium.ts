/** Where the browser of tests is: Debian's package, or what DSTACK_CHROMIUM names where the machine has another one. */
import { existsSync } from 'node:fs';

export const CHROMIUM = process.env.DSTACK_CHROMIUM ?? '/usr/bin/chromium';

/** Ubuntu has none that set-up could install: its package is a snap. Tests in the browser are then counted as skipped. */
export const hasChromium = existsSync(CHROMIUM);
