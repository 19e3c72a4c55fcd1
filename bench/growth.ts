/** Figures at several sizes, and how each grows: the exponent e of figure ~ size^e, between the smallest and the largest size. */

export interface Row {
  readonly what: string;
  /** Of the network, or whatever the figure is said to grow with. */
  readonly size: number;
  readonly figure: number;
  readonly unit: string;
}

export interface Curve {
  readonly what: string;
  readonly unit: string;
  readonly rows: readonly Row[];
  /** Undefined where there is one size only, or a figure of nothing. */
  readonly exponent: number | undefined;
}

export function curvesOf(rows: readonly Row[]): Curve[] {
  return [...Map.groupBy(rows, ({ what }) => what)].map(([what, all]) => {
    const sorted = all.toSorted((a, b) => a.size - b.size);
    return { what, unit: sorted[0]!.unit, rows: sorted, exponent: exponentOf(sorted[0]!, sorted.at(-1)!) };
  });
}

function exponentOf(first: Row, last: Row): number | undefined {
  if (first.size <= 0 || first.size === last.size || first.figure <= 0 || last.figure <= 0) return undefined;
  return Math.log(last.figure / first.figure) / Math.log(last.size / first.size);
}

/** Lines of a table in Markdown. */
export function curveTable(curves: readonly Curve[]): string[] {
  return [
    '| what | at | figures | exponent |',
    '|---|---:|---:|---:|',
    ...curves.map(({ what, unit, rows, exponent }) => {
      const sizes = rows.map(({ size }) => size.toLocaleString('en')).join(' / ');
      const figures = rows.map(({ figure }) => shown(figure)).join(' / ');
      return `| ${what} | ${sizes} | ${figures} ${unit} | ${exponent?.toFixed(2) ?? '–'} |`;
    }),
  ];
}

export const shown = (figure: number): string => Number(figure.toPrecision(3)).toLocaleString('en');
