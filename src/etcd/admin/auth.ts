import type { PermissionType } from '../../proto/messages.gen.js';
import { services } from '../../proto/services.js';
import { checkChoice } from '../../util/validate.js';
import type { CallOptions } from '../transport/call.js';
import type { Connection } from '../transport/connection.js';
import { checkText, limitsOf } from './admin-options.js';
import { encodeRange, type KeyRange } from '../kv/key-range.js';

/** What a role may do with a range of keys. */
export type Access = 'read' | 'write' | 'readwrite';

/** A permission of a role, on one key or on `key` to `rangeEnd`, by etcd's rules for ranges. */
export interface Permission {
  readonly access: Access;
  readonly key: Buffer;
  /** Empty for a single key. */
  readonly rangeEnd: Buffer;
}

const TO_WIRE: Readonly<Record<Access, PermissionType>> = {
  read: 'READ',
  readwrite: 'READWRITE',
  write: 'WRITE',
};
const FROM_WIRE: Readonly<Record<PermissionType, Access>> = {
  READ: 'read',
  READWRITE: 'readwrite',
  WRITE: 'write',
};

/** etcd's calls about users and roles. Changes reject with `UNKNOWN_OUTCOME` when their answer is lost. */
export class Auth {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Whether authentication is on. etcd 3.5 and later. */
  async status(
    options: CallOptions = {},
  ): Promise<{ readonly enabled: boolean; readonly authRevision: bigint }> {
    const request = {
      kind: 'read',
      request: {},
      rpc: services.Auth.AuthStatus,
      what: 'auth status',
    } as const;
    const { enabled, authRevision } = await this.#connection.unary({
      ...limitsOf(options, 'status'),
      ...request,
    });
    return { authRevision, enabled };
  }

  /** Switches authentication on. There must be a user `root` with the role `root`. */
  async enable(options: CallOptions = {}): Promise<void> {
    const request = {
      kind: 'guarded',
      request: {},
      rpc: services.Auth.AuthEnable,
      what: 'enable auth',
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'enable'), ...request });
  }

  /** Switches authentication off. */
  async disable(options: CallOptions = {}): Promise<void> {
    const request = {
      kind: 'guarded',
      request: {},
      rpc: services.Auth.AuthDisable,
      what: 'disable auth',
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'disable'), ...request });
  }

  /** Adds a user; without a password it can only sign in by certificate. Rejects with `USER_EXISTS`. */
  async userAdd(name: string, password?: string, options: CallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...limitsOf(options, 'userAdd'),
      kind: 'write',
      request: {
        name: checkText(name, 'name'),
        options: { noPassword: password === undefined },
        password: checkText(password ?? '', 'password'),
      },
      rpc: services.Auth.UserAdd,
      what: `add user ${JSON.stringify(name)}`,
    });
  }

  /** The roles of a user. Rejects with `USER_NOT_FOUND`. */
  async userGet(name: string, options: CallOptions = {}): Promise<readonly string[]> {
    const what = `get user ${JSON.stringify(name)}`;
    const request = {
      kind: 'read',
      request: { name: checkText(name, 'name') },
      rpc: services.Auth.UserGet,
      what,
    } as const;
    return (await this.#connection.unary({ ...limitsOf(options, 'userGet'), ...request })).roles;
  }

  /** The names of all users. */
  async userList(options: CallOptions = {}): Promise<readonly string[]> {
    const request = { kind: 'read', request: {}, rpc: services.Auth.UserList, what: 'list users' } as const;
    return (await this.#connection.unary({ ...limitsOf(options, 'userList'), ...request })).users;
  }

  /** Removes a user. Rejects with `USER_NOT_FOUND`. */
  async userDelete(name: string, options: CallOptions = {}): Promise<void> {
    const what = `delete user ${JSON.stringify(name)}`;
    const request = {
      kind: 'write',
      request: { name: checkText(name, 'name') },
      rpc: services.Auth.UserDelete,
      what,
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'userDelete'), ...request });
  }

  /** Changes a user's password. */
  async userChangePassword(name: string, password: string, options: CallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...limitsOf(options, 'userChangePassword'),
      kind: 'write',
      request: { name: checkText(name, 'name'), password: checkText(password, 'password') },
      rpc: services.Auth.UserChangePassword,
      what: `change the password of user ${JSON.stringify(name)}`,
    });
  }

  /** Gives a user a role. */
  async userGrantRole(user: string, role: string, options: CallOptions = {}): Promise<void> {
    const what = `grant role ${JSON.stringify(role)} to user ${JSON.stringify(user)}`;
    const request = {
      kind: 'write',
      request: { role: checkText(role, 'role'), user: checkText(user, 'user') },
      rpc: services.Auth.UserGrantRole,
      what,
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'userGrantRole'), ...request });
  }

  /** Takes a role from a user. Rejects with `ROLE_NOT_GRANTED`. */
  async userRevokeRole(user: string, role: string, options: CallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...limitsOf(options, 'userRevokeRole'),
      kind: 'write',
      request: { name: checkText(user, 'user'), role: checkText(role, 'role') },
      rpc: services.Auth.UserRevokeRole,
      what: `revoke role ${JSON.stringify(role)} of user ${JSON.stringify(user)}`,
    });
  }

  /** Adds a role. Rejects with `ROLE_EXISTS`. */
  async roleAdd(name: string, options: CallOptions = {}): Promise<void> {
    const what = `add role ${JSON.stringify(name)}`;
    const request = {
      kind: 'write',
      request: { name: checkText(name, 'name') },
      rpc: services.Auth.RoleAdd,
      what,
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'roleAdd'), ...request });
  }

  /** The permissions of a role. Rejects with `ROLE_NOT_FOUND`. */
  async roleGet(role: string, options: CallOptions = {}): Promise<readonly Permission[]> {
    const what = `get role ${JSON.stringify(role)}`;
    const request = {
      kind: 'read',
      request: { role: checkText(role, 'role') },
      rpc: services.Auth.RoleGet,
      what,
    } as const;
    const { perm } = await this.#connection.unary({ ...limitsOf(options, 'roleGet'), ...request });
    return perm.map(({ permType, key, rangeEnd }) => ({ access: FROM_WIRE[permType], key, rangeEnd }));
  }

  /** The names of all roles. */
  async roleList(options: CallOptions = {}): Promise<readonly string[]> {
    const request = { kind: 'read', request: {}, rpc: services.Auth.RoleList, what: 'list roles' } as const;
    return (await this.#connection.unary({ ...limitsOf(options, 'roleList'), ...request })).roles;
  }

  /** Removes a role. Rejects with `ROLE_NOT_FOUND`. */
  async roleDelete(role: string, options: CallOptions = {}): Promise<void> {
    const what = `delete role ${JSON.stringify(role)}`;
    const request = {
      kind: 'write',
      request: { role: checkText(role, 'role') },
      rpc: services.Auth.RoleDelete,
      what,
    } as const;
    await this.#connection.unary({ ...limitsOf(options, 'roleDelete'), ...request });
  }

  /** Lets a role read, write or both in a range. */
  async roleGrantPermission(
    role: string,
    access: Access,
    range: KeyRange,
    options: CallOptions = {},
  ): Promise<void> {
    checkChoice(access, Object.keys(TO_WIRE), 'access');
    await this.#connection.unary({
      ...limitsOf(options, 'roleGrantPermission'),
      kind: 'write',
      request: { name: checkText(role, 'role'), perm: { permType: TO_WIRE[access], ...encodeRange(range) } },
      rpc: services.Auth.RoleGrantPermission,
      what: `grant a permission to role ${JSON.stringify(role)}`,
    });
  }

  /** Takes a permission from a role. Rejects with `PERMISSION_NOT_GRANTED`. */
  async roleRevokePermission(role: string, range: KeyRange, options: CallOptions = {}): Promise<void> {
    await this.#connection.unary({
      ...limitsOf(options, 'roleRevokePermission'),
      kind: 'write',
      request: { role: checkText(role, 'role'), ...encodeRange(range) },
      rpc: services.Auth.RoleRevokePermission,
      what: `revoke a permission of role ${JSON.stringify(role)}`,
    });
  }
}
