/** A network for the dashboard's tests: any state, by hand. */
import type { NetworkSource } from './live-state.ts';
import type { Parts } from './state.ts';

export const CONTRACT = `0x${'ab'.repeat(20)}`;
export const word = (n: number): string => `0x${n.toString(16).padStart(64, '0')}`;

/** A relay that was started just now. */
export const NOTHING: Parts = {
  pulse: { head: null, time: null, block: null, unhealthy: null },
  network: null,
  history: { from: null, complete: false, behind: 0, cutAt: null, problem: null },
  warnings: [],
  own: null,
  nodes: { list: [], more: 0 },
  peers: { list: [], more: 0 },
  onboardings: null,
  apps: null,
  rollouts: { list: [], more: 0 },
  certificate: null,
  gas: null,
  allowed: { list: [], more: 0 },
  pending: { list: [], more: 0 },
};

export class FakeNetwork implements NetworkSource {
  readonly contract = CONTRACT;
  readonly chainId = 1;
  now: Parts = NOTHING;
  /** How often each was called. */
  looks = 0;
  reads = 0;

  async look(): Promise<void> {
    this.looks += 1;
  }

  parts(): Parts {
    this.reads += 1;
    return this.now;
  }

  set(parts: Partial<Parts>): void {
    this.now = { ...this.now, ...parts };
  }
}
