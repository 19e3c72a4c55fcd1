/** All files of the simulated platform, under the paths that they have on TDX. */
import { FaultPlan } from './faults.ts';
import { firmwareTables } from './firmware-tables.ts';
import type { Machine } from './machine.ts';
import { measurementsFolder } from './measurements.ts';
import { reportFolder } from './reports.ts';
import { type Folder, fixedFolder, type TreeNode } from './tree.ts';

export function simulatedFiles(machine: Machine, faults: FaultPlan = new FaultPlan()): Folder {
  return at('sys', {
    kernel: at('config/tsm/report', reportFolder(machine, faults)),
    devices: at('virtual/misc/tdx_guest/measurements', measurementsFolder(machine, faults)),
    firmware: at('acpi/tables', firmwareTables(machine.firmwareLog, faults)),
  });
}

/** A folder with one node, at `path` below it. */
function at(path: string, what: TreeNode | Readonly<Record<string, TreeNode>>): Folder {
  const node = 'kind' in what ? (what as TreeNode) : fixedFolder(what as Record<string, TreeNode>);
  return path
    .split('/')
    .reduceRight<TreeNode>((inner, name) => fixedFolder({ [name]: inner }), node) as Folder;
}
