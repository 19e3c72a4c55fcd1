/** ethers' view of the contract: for tools and tests that need calls, logs and refusals that the bindings do not have. */
import { Interface } from 'ethers';
import { networkJsonAbi } from './bindings.ts';

export const networkInterface: Interface = new Interface(networkJsonAbi);
