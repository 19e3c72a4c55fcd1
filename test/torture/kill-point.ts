/**
 * Loaded with `node --import` into a process that is to die: it kills itself (SIGKILL, so nothing is flushed or closed) at
 * the TORTURE_KILL_AT-th point where it acts on the outside: before and after each write of its store or of a file, before
 * each request and when its reply begins. Between two such points nothing that outlives the process happens, so these are
 * all the places where a crash can make a difference. None of this is in the product.
 */
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { syncBuiltinESMExports } from 'node:module';
import { DatabaseSync, StatementSync } from 'node:sqlite';

const killAt = Number(process.env.TORTURE_KILL_AT);
let points = 0;

function point(): void {
  points += 1;
  if (points === killAt) process.kill(process.pid, 'SIGKILL');
}

/** Calls `target[name]` between two points. */
function surround(target: object, name: string): void {
  const holder = target as Record<string, (...args: unknown[]) => unknown>;
  const original = holder[name]!;
  holder[name] = function (this: unknown, ...args: unknown[]) {
    point();
    const result = original.apply(this, args);
    point();
    return result;
  };
}

for (const name of ['openSync', 'writeSync', 'writeFileSync', 'fsyncSync', 'renameSync', 'mkdirSync'])
  surround(fs, name);
surround(DatabaseSync.prototype, 'exec');
surround(StatementSync.prototype, 'run');
for (const module of [http, https]) {
  const original = module.request;
  const request = (...args: unknown[]) => {
    point();
    const made = Reflect.apply(original, module, args) as http.ClientRequest;
    made.once('response', point);
    return made;
  };
  Object.assign(module, { request });
}
const realFetch = globalThis.fetch;
globalThis.fetch = async (...args) => {
  point();
  const response = await realFetch(...args);
  point();
  return response;
};
syncBuiltinESMExports();
