/** The handlers of the contract's events that a relay runs. A new one is a file of its own, and a line here. */
import type { EventLoopOptions } from '../../lib/framework/event-loop.ts';
import { type OnboardHandlerOptions, onboardHandler } from './onboard-handler.ts';
import { type SealHandlerOptions, sealHandler } from './seal-handler.ts';

export type HandlerOptions = OnboardHandlerOptions & SealHandlerOptions;

export const relayHandlers = (options: HandlerOptions): EventLoopOptions['handlers'] => [
  onboardHandler(options),
  sealHandler(options),
];
