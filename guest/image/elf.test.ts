import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { elfNeeds } from './elf.ts';

describe('what an ELF file needs', () => {
  it('is read from a real program', () => {
    const needs = elfNeeds(readFileSync(process.execPath));
    expect(needs?.interpreter).toBe('/lib64/ld-linux-x86-64.so.2');
    expect(needs?.libraries).toContain('libc.so.6');
  });

  it.each([
    ['a script', Buffer.from('#!/bin/sh\n'.padEnd(200))],
    ['an empty file', Buffer.alloc(0)],
    ['a 32-bit program', Buffer.concat([Buffer.from('\x7fELF\x01\x01', 'latin1'), Buffer.alloc(100)])],
  ])('is undefined for %s', (_, bytes) => {
    expect(elfNeeds(bytes)).toBeUndefined();
  });
});
