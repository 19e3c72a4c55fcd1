import { expect, test } from 'vitest';
import { readSiteFile } from './site-file.ts';

const acme = { directory: 'https://acme.example/directory', challenges: ['http-01'] };
const good = { domains: ['site.example'], acme };

test('what is right is taken, also with a byte order mark, and as it stands in network.json', () => {
  const text = JSON.stringify(good);
  for (const given of [text, `\ufeff${text}`, JSON.stringify({ site: good }), `${text}\r\n`])
    expect(readSiteFile(given, 'site.json')).toEqual(good);
});

test.each([
  ['Site.example', { ...good, domains: ['Site.example'] }],
  ['site.example.', { ...good, domains: ['site.example.'] }],
  ['*.site.example', { ...good, domains: ['*.site.example'] }],
  ['https://site.example', { ...good, domains: ['https://site.example'] }],
  ['http://acme.example', { ...good, acme: { ...acme, directory: 'http://acme.example' } }],
  ['me@site.example', { ...good, acme: { ...acme, contact: ['me@site.example'] } }],
  ['http01', { ...good, acme: { ...acme, challenges: ['http01'] } }],
])('%s is told in one sentence', (given, site) => {
  expect(() => readSiteFile(JSON.stringify(site), 'site.json')).toThrowError(
    expect.objectContaining({
      code: 'USAGE',
      message: expect.stringMatching(/^[a-z.]+( [a-z]+)? in site\.json \(--site\) [^^]*, not "[^"]+"$/),
    }),
  );
  expect(() => readSiteFile(JSON.stringify(site), 'site.json')).toThrowError(JSON.stringify(given));
});

test('no JSON is a wrong call', () => {
  expect(() => readSiteFile('"site": {}', 'site.json')).toThrowError(
    expect.objectContaining({ code: 'USAGE' }),
  );
});
