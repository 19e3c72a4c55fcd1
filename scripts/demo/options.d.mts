import type { Gossip } from './host.ts';

export interface DemoOptions {
  once: boolean;
  setUpOnly: boolean;
  gossip: Gossip;
}
export function demoOptions(args: readonly string[]): DemoOptions;
