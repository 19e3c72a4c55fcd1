/** Whether a container is up, found out by ourselves: podman's own health timers need systemd-run, which the image has not. */
import { get } from 'node:http';
import { connect } from 'node:net';
import type { ContainerPlan, Health } from '../../lib/protocol/manifest.ts';
import type { Engine, Running } from './engine.ts';

/** How much of a reply is shown, in characters. */
const SHOWN = 200;
const CONNECT_WITHIN = 2_000;

/** What is wrong with a container, as the end of a sentence that begins with its name; undefined when it is up. Throws ENGINE_… */
export async function probe(
  engine: Pick<Engine, 'runIn'>,
  { id, address }: Running,
  { health, http, requests, logs }: ContainerPlan,
): Promise<string | undefined> {
  if (health?.exec !== undefined) return ranWell(engine, id, health.exec, health.timeoutSeconds);
  if (health?.http !== undefined)
    return answersWell(address, http[0]!.port, health.http, health.timeoutSeconds, logs === 'public');
  const ports = [...http, ...(requests === undefined ? [] : [requests])].map((one) => one.port);
  for (const port of new Set(ports))
    if (!(await accepts(address, port))) return `does not listen on its port ${port}`;
  return undefined;
}

async function ranWell(
  engine: Pick<Engine, 'runIn'>,
  id: string,
  command: NonNullable<Health['exec']>,
  seconds: number,
): Promise<string | undefined> {
  const code = await engine.runIn(id, command, seconds);
  if (code === 0) return undefined;
  return code === undefined
    ? `gives no exit code of its health check in ${seconds} s`
    : `fails its health check with exit code ${code}`;
}

/**
 * Healthy is a status from 200 to 399. Redirects are not followed: they may lead anywhere.
 * @param isPublic whether what it answers may be shown: it is the container's own text, as its log is
 */
function answersWell(
  address: string,
  port: number,
  path: string,
  seconds: number,
  isPublic: boolean,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const headers = { host: 'localhost', connection: 'close', 'user-agent': 'dstack-health' };
    const request = get({ host: address, port, path, headers, agent: false }, (response) => {
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 400) return end(undefined);
      if (!isPublic) return end(`answers ${path} with status ${status}`);
      let body = '';
      response.setEncoding('utf8');
      const ended = () => end(`answers ${path} with status ${status}: ${body.slice(0, SHOWN)}`);
      response.on('data', (text: string) => {
        body += text;
        if (body.length >= SHOWN) ended();
      });
      response.on('close', ended);
      response.on('error', ended);
    });
    const timer = setTimeout(() => end(`does not answer ${path} in ${seconds} s`), seconds * 1000);
    request.on('error', (error) => end(`does not answer ${path}: ${error.message}`));
    function end(wrong: string | undefined): void {
      clearTimeout(timer);
      resolve(wrong);
      request.destroy();
    }
  });
}

function accepts(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: CONNECT_WITHIN });
    const end = (up: boolean) => {
      socket.destroy();
      resolve(up);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}
