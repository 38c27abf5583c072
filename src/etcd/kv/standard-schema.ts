/**
 * The part of Standard Schema (https://standardschema.dev) that reading a value needs: what zod, valibot, arktype and others
 * offer under `~standard`.
 */
import { ConclaveError } from '../../errors/conclave-error.js';

/** A schema by which a value is checked and turned into `Output`. */
export interface Schema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    /** Says what a value is, or what is wrong with it. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

/** What a schema makes of a value: what it is turned into, or what is wrong with it. */
export type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

/** One thing that is wrong with a value. */
export interface SchemaIssue {
  readonly message: string;
  /** Where in the value. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** Refuses what is no schema. */
export function checkSchema(schema: Schema): void {
  const given = schema as Partial<Schema> | undefined;
  if (typeof given?.['~standard']?.validate !== 'function')
    throw new TypeError('schema must be a Standard Schema: one of zod, valibot, arktype or the like');
}

/**
 * What `schema` makes of the value of `key`. Throws `INVALID_VALUE`, with the issues as its cause's, when it is wrong; and
 * TypeError for a schema that answers with a promise.
 */
export function parseBy<Output>(schema: Schema<Output>, value: unknown, key: string): Output {
  const result = schema['~standard'].validate(value);
  if (result instanceof Promise) {
    result.catch(() => undefined); // It is not waited for.
    throw new TypeError('schema answers with a promise; json() takes only schemas that answer at once');
  }
  if (result.issues === undefined) return result.value;
  const [first] = result.issues;
  const where = (first?.path ?? []).map(nameOf).join('.');
  const more = result.issues.length > 1 ? ` (and ${String(result.issues.length - 1)} more)` : '';
  const text = `the value of ${JSON.stringify(key)} is not as its schema says: ${where && `${where}: `}${first?.message ?? 'no reason given'}${more}`;
  throw new ConclaveError('INVALID_VALUE', text, { cause: result.issues, key });
}

function nameOf(part: PropertyKey | { readonly key: PropertyKey }): string {
  return String(typeof part === 'object' ? part.key : part);
}
