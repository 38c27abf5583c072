// Links between the pages lead to pages and headings that are there, and the files that pages name are there.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

const top = fileURLToPath(new URL('../../..', import.meta.url));

/** A heading's anchor, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{Letter}\p{Number}\p{Mark}_\- ]/gu, '')
    .replaceAll(' ', '-');
}

async function textOf(file: string): Promise<string> {
  const text = await readFile(path.join(top, file), 'utf8');
  return text.replaceAll(/```[\s\S]*?```/g, '');
}

/** What is wrong with the links of one page. */
async function wrongIn(page: string): Promise<string[]> {
  const text = await textOf(page);
  const wrong: string[] = [];
  for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(link)) continue;
    const [to = '', anchor] = link.split('#');
    const file = to === '' ? page : path.join(path.dirname(page), to);
    if (!existsSync(path.join(top, file))) wrong.push(`${page}: ${link}: no such file`);
    else if (anchor !== undefined) {
      const headings = [...(await textOf(file)).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
      if (!headings.some((heading) => anchorOf(heading) === anchor))
        wrong.push(`${page}: ${link}: no such heading`);
    }
  }
  for (const [file] of text.matchAll(/\b(?:test|src|examples|scripts)\/[\w./-]+\.(?:ts|mjs|md)\b/g))
    if (!existsSync(path.join(top, file))) wrong.push(`${page}: ${file}: no such file`);
  return wrong;
}

it('links and named files of every page are there', async () => {
  const docs = (await readdir(path.join(top, 'docs'))).filter((name) => name.endsWith('.md'));
  const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', ...docs.map((name) => `docs/${name}`)];
  assert.deepEqual((await Promise.all(pages.map(wrongIn))).flat(), []);
});

it('docs/README.md leads to every page', async () => {
  const index = await readFile(path.join(top, 'docs/README.md'), 'utf8');
  const pages = (await readdir(path.join(top, 'docs'))).filter((name) => /^(?!README).*\.md$/.test(name));
  assert.deepEqual(
    pages.filter((page) => !index.includes(`(${page})`)),
    [],
  );
});
