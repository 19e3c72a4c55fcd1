/** How rollouts ended, the last few of each app: one that fails for ever pushes no other app's out. */
import { appsStatusLimits, type Rollout } from '../../lib/protocol/app-status.ts';

export class History {
  readonly #all: Rollout[] = [];

  /** The same outcome once more only moves on. */
  add(rollout: Rollout): void {
    const all = this.#all;
    const last = all.findLastIndex(({ app }) => app === rollout.app);
    const before = all[last];
    const isSame =
      before?.manifest === rollout.manifest &&
      before.outcome === rollout.outcome &&
      before.code === rollout.code;
    if (isSame) all.splice(last, 1);
    all.push(rollout);
    const own = all.filter(({ app }) => app === rollout.app);
    if (own.length > appsStatusLimits.rolloutsPerApp) all.splice(all.indexOf(own[0]!), 1);
    if (all.length > appsStatusLimits.rollouts) all.shift();
  }

  list(): Rollout[] {
    return [...this.#all];
  }
}
