/** ethers' view of the contract: for tools and tests that make calls, logs and refusals which the bindings do not. */
import { Interface } from 'ethers';
import { networkJsonAbi } from './bindings.ts';

export const networkInterface: Interface = new Interface(networkJsonAbi);
