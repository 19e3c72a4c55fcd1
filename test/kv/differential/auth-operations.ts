/** Random requests about users and roles, right ones and wrong ones, and those that bring a namespace to where users count. */
import { Auth } from '../../../lib/etcd/gen/auth_pb.js';
import type { Random } from '../../torture/random.ts';
import { type Asked, asked, someKeys } from './operations.ts';

const USERS = ['alice', 'bob', 'root', 'nobody-has-it', ''];
const ROLES = ['reader', 'writer', 'root', 'no-role', ''];
export const PASSWORD = 'correct';

/** By root: makes root and alice, alice with a role of her own, and switches users on. */
export function enabling(): Asked[] {
  const { userAdd, roleAdd, userGrantRole, roleGrantPermission, authEnable } = Auth.method;
  return [
    asked(authEnable, () => ({})),
    ...['root', 'alice'].map((name) => asked(userAdd, () => ({ name, password: PASSWORD }))),
    ...['root', 'reader'].map((name) => asked(roleAdd, () => ({ name }))),
    asked(authEnable, () => ({})),
    asked(userGrantRole, () => ({ user: 'alice', role: 'reader' })),
    asked(userGrantRole, () => ({ user: 'root', role: 'root' })),
    asked(roleGrantPermission, () => ({
      name: 'reader',
      perm: { permType: 0, key: Buffer.from('dir/'), rangeEnd: Buffer.from('dir0') },
    })),
    asked(authEnable, () => ({})),
  ];
}

export const disabling = (): Asked => asked(Auth.method.authDisable, () => ({}));

export const authenticating = (name: string): Asked =>
  asked(Auth.method.authenticate, () => ({ name, password: PASSWORD }));

export function randomAuthRequest(random: Random): Asked {
  const [user, role] = [random.pick(USERS), random.pick(ROLES)];
  const password = random.pick([PASSWORD, 'wrong', '']);
  const { method } = Auth;
  switch (random.between(0, 12)) {
    case 0:
      // Root's password stays what it is, or nobody could go on.
      return asked(method.userAdd, () => ({ name: user, password: PASSWORD }));
    case 1:
      return asked(method.userGet, () => ({ name: user }));
    case 2:
      return asked(method.userList, () => ({}));
    case 3:
      return asked(method.userDelete, () => ({ name: user === 'alice' ? 'bob' : user }));
    case 4:
      return asked(method.userGrantRole, () => ({ user, role: role === 'root' ? 'writer' : role }));
    case 5:
      return asked(method.userRevokeRole, () => ({ name: user, role }));
    case 6:
      return asked(method.roleAdd, () => ({ name: role }));
    case 7:
      return asked(method.roleGet, () => ({ role }));
    case 8:
      return asked(method.roleList, () => ({}));
    case 9:
      return asked(method.roleDelete, () => ({ role }));
    case 10:
    case 11: {
      const perm = { ...someKeys(random), permType: random.between(0, 2) };
      return asked(method.roleGrantPermission, () => ({ name: role, perm }));
    }
    default:
      return asked(method.authenticate, () => ({ name: user, password }));
  }
}
