import { expect, test } from 'vitest';
import { codeOf } from '../errors.ts';
import { makeRequest, parseRequest } from './certificate-request.ts';
import { ALICE, MALLORY } from './network.fixture.ts';

const codeFor = (request: object): string => {
  try {
    parseRequest(JSON.stringify(request));
    return 'taken';
  } catch (error) {
    return codeOf(error);
  }
};

test('a request shows that who asks has the key, and what it says of itself', () => {
  const request = makeRequest(ALICE, 'Alice, of accounts');
  expect(parseRequest(JSON.stringify(request))).toEqual(request);
  expect(codeFor({ ...request, subject: 'the director' })).toBe('RECORD_REQUEST');
  expect(codeFor({ ...request, owner: makeRequest(MALLORY, '').owner })).toBe('RECORD_REQUEST');
  expect(codeFor({ ...request, signature: 'ff'.repeat(64) })).toBe('RECORD_SIGNATURE_FORM');
  expect(codeFor({ ...request, owner: `01${'00'.repeat(31)}` })).toBe('RECORD_KEY');
  expect(codeFor({ ...request, extra: 1 })).toBe('RECORD_REQUEST');
});
