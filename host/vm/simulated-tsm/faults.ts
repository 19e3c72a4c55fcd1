/** Errors that the files can be told to show, so that a guest's reaction to each can be tested. None by default. */
import { Errno, type ErrnoName, Silence } from './tree.ts';

/** Where a fault strikes: a system call on one of the files. */
export type FaultPoint =
  | 'mkdir'
  | 'provider'
  | 'generation'
  | 'inblob'
  | 'outblob'
  | 'register-read'
  | 'register-write'
  | 'firmware-log';

export type Fault =
  /** The call fails; with `late`, after it has done its work. */
  | { readonly errno: ErrnoName; readonly late?: boolean }
  /** These bytes are read instead. */
  | { readonly bytes: Uint8Array }
  /** As many bytes are read as there are, but each is this one. */
  | { readonly fill: number }
  /** Another writer replaces the inblob just before. At `outblob` only. */
  | { readonly otherWriter: true }
  /** No answer, ever. */
  | { readonly silent: true };

/** The faults still to come, by place; each strikes once. Whoever made it may add to it while the machine runs. */
export class FaultPlan {
  readonly #planned: { at: FaultPoint; fault: Fault }[] = [];

  add(at: FaultPoint, fault: Fault, times = 1): this {
    for (let time = 0; time < times; time++) this.#planned.push({ at, fault });
    return this;
  }

  /** Forgets those that have not struck yet. */
  clear(): void {
    this.#planned.length = 0;
  }

  take(at: FaultPoint): Fault | undefined {
    const index = this.#planned.findIndex((planned) => planned.at === at);
    return index === -1 ? undefined : this.#planned.splice(index, 1)[0]!.fault;
  }

  /** `work`, or what the next fault at this place makes of it. */
  around(at: FaultPoint, work: () => Uint8Array): Uint8Array {
    const fault = this.take(at);
    return fault === undefined ? work() : this.strike(fault, work);
  }

  /** What `fault` makes of `work`. */
  strike(fault: Fault, work: () => Uint8Array): Uint8Array {
    if ('otherWriter' in fault) return work();
    if ('silent' in fault) throw new Silence();
    if ('bytes' in fault) return fault.bytes;
    if ('fill' in fault) return new Uint8Array(work().length).fill(fault.fill);
    if (fault.late === true) work();
    throw new Errno(fault.errno);
  }
}
