import { describeNetworkError, parseNetworkError } from './network-contract.ts';

/** What a call of the network's contract reverted with, in words; undefined when it is no error of that contract. @param data 0x hex */
export function networkErrorInWords(data: string): string | undefined {
  try {
    const error = parseNetworkError(data);
    return error === undefined ? undefined : describeNetworkError(error);
  } catch {
    return undefined;
  }
}
