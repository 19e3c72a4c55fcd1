/** What an audit found, from all of its parts. */
import type { AuditReport, Finding, Severity } from './report.ts';

const ORDER: readonly Severity[] = ['failure', 'gap', 'warning'];

export class Findings {
  readonly #all: Finding[] = [];

  add(severity: Severity, code: string, where: string, message: string): void {
    this.#all.push({ severity, code, where, message });
  }

  has(severity: Severity): boolean {
    return this.#all.some((finding) => finding.severity === severity);
  }

  /** The gravest first. */
  sorted(): Finding[] {
    return [...this.#all].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
  }

  verdict(): AuditReport['verdict'] {
    if (this.has('failure')) return 'failed';
    if (this.has('gap')) return 'unproven';
    return this.has('warning') ? 'sound-with-warnings' : 'sound';
  }
}
