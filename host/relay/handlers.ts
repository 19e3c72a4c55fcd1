/** The handlers of the contract's events that a relay runs. A new one is a file of its own, and a line here. */
import type { ContractHandler } from '../../lib/framework/host/host.ts';
import { AnswerTurns, type AnswerTurnsOptions } from './answer-turns.ts';
import type { NodeCount } from './node-count.ts';
import { type OnboardHandlerOptions, onboardHandler } from './onboard-handler.ts';
import type { RequestEvent } from './request-events.ts';
import { sealHandler } from './seal-handler.ts';

export interface HandlerOptions
  extends Omit<OnboardHandlerOptions, 'nodeCount' | 'turns'>,
    Omit<AnswerTurnsOptions, 'nodes'> {
  nodeCount: NodeCount;
}

export function relayHandlers(options: HandlerOptions): ContractHandler<RequestEvent>[] {
  const turns = new AnswerTurns({ ...options, nodes: () => options.nodeCount.nodes });
  const shared = { ...options, turns };
  return [onboardHandler(shared), sealHandler(shared)];
}
