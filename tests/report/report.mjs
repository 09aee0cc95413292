// Opens reports in headless Chromium and checks what their readers need: no request but for the page itself, no violation that
// axe-core finds, no horizontal scrolling of the page, no text of a chart outside of it or over another one, sorting, filtering
// and copying with scripts, all content without them, and at most so many bytes.
//
//   node report.mjs OUT REPORT.html...
//
// Screenshots of four sizes and themes and a PDF of A4 pages are written into OUT. Needs the packages playwright-core and
// axe-core, and a Chromium: CHROMIUM, or `chromium` on the path.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [out, ...reports] = process.argv.slice(2);
const MOST = 2 * 1024 * 1024;
const LOOKS = [[400, "light"], [400, "dark"], [1280, "light"], [1280, "dark"]];

let failures = 0;
const check = (name, problems) => {
  console.log(`${problems.length ? "FAILED" : "ok"}  ${name}`);
  for (const problem of problems.slice(0, 12)) console.log(`        ${problem}`);
  failures += problems.length ? 1 : 0;
};

// What a reader would see as ugly: runs in the page.
const layout = () => {
  const problems = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    problems.push(`the page scrolls sideways: ${page.scrollWidth} > ${page.clientWidth}`);
    for (const element of document.body.querySelectorAll("*")) {
      const box = element.getBoundingClientRect();
      if (box.right > page.clientWidth + 1 && !element.closest(".scroll, pre, .hidden, svg")) problems.push(`wide: ${element.tagName} ${element.className}`);
    }
  }
  for (const svg of document.querySelectorAll("figure > svg")) {
    const own = svg.getBoundingClientRect();
    const name = svg.closest("figure").id;
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    for (const [text, box] of texts) {
      if (box.left < own.left - 1 || box.right > own.right + 1 || box.top < own.top - 1 || box.bottom > own.bottom + 1) problems.push(`${name}: "${text}" is cut`);
    }
    const scale = own.width / svg.viewBox.baseVal.width;
    for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [texts[i][1], texts[j][1]];
      const [x, y] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
      if (x > 2 * scale && y > 4 * scale) problems.push(`${name}: "${texts[i][0]}" is over "${texts[j][0]}"`);
    }
    // No data behind a text, but for numbers in their own markers.
    const marks = [...svg.querySelectorAll(".mk, .ho, .bar, .hatch")].map(mark => mark.getBoundingClientRect());
    for (const text of svg.querySelectorAll("text.tx, text.mu")) {
      const a = text.getBoundingClientRect();
      const hit = marks.some(b => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5 * scale && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3.5 * scale);
      if (hit) problems.push(`${name}: "${text.textContent}" is over data`);
    }
    // Nor a line: points along each, against the middle of each text.
    const inner = texts.filter((_, at) => !svg.querySelectorAll("text")[at].classList.contains("num")).map(([text, box]) => [text, box.left + scale, box.right - scale, box.top + box.height * 0.3, box.bottom - box.height * 0.3]);
    const crossed = new Set();
    for (const line of svg.querySelectorAll("path.ln, path.thin, path.zero, path.limit")) {
      const matrix = line.getScreenCTM();
      const length = line.getTotalLength();
      for (let at = 0; at <= length; at += 4) {
        const point = line.getPointAtLength(at).matrixTransform(matrix);
        for (const [text, left, right, top, bottom] of inner) {
          if (point.x > left && point.x < right && point.y > top && point.y < bottom) crossed.add(text);
        }
      }
    }
    for (const text of crossed) problems.push(`${name}: a line crosses "${text}"`);
  }
  return problems;
};

mkdirSync(out, { recursive: true });
const executablePath = process.env.CHROMIUM || execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
for (const report of reports) {
  const url = pathToFileURL(resolve(report)).href;
  const name = `${basename(dirname(resolve(report)))}-${basename(report, ".html")}`;
  const size = statSync(report).size;
  console.log(`${report}: ${size} bytes`);
  check("at most 2 MB", size > MOST ? [`${size} bytes`] : []);
  for (const [width, theme] of LOOKS) {
    const look = `${width}px ${theme}`;
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: theme, offline: true, bypassCSP: true });
    const page = await context.newPage();
    const requests = [], errors = [];
    page.on("request", request => { if (request.url() !== url && !request.url().startsWith("data:")) requests.push(request.url()); });
    page.on("pageerror", error => errors.push(error.message));
    page.on("console", message => { if (message.type() === "error") errors.push(message.text()); });
    await page.goto(url);
    check(`${look}: no request, no error`, [...requests, ...errors]);
    check(`${look}: layout`, await page.evaluate(layout));
    await page.screenshot({ path: join(out, `${name}-${width}-${theme}.png`), fullPage: true });
    const paint = Math.round(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity));
    check(`${look}: first paint after ${paint} ms, under 1 s`, paint < 1000 ? [] : [`${paint} ms`]);
    // Folded parts are checked at one width of each theme: that takes a while in large reports.
    for (const open of (width === 400) === (theme === "light") ? [false, true] : [false]) {
      if (open) await page.evaluate(() => document.querySelectorAll("details").forEach(details => { details.open = true; }));
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      check(`${look}: axe-core${open ? ", all unfolded" : ""}`, violations.map(found => `${found.id}: ${found.help}: ${found.nodes.slice(0, 3).map(node => node.html.slice(0, 140)).join(" | ")}`));
    }
    check(`${look}: layout once more`, await page.evaluate(layout));
    await context.close();
  }
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, offline: true });
  const page = await context.newPage();
  await page.goto(url);
  check("scripts: sorting, filtering, copying", await page.evaluate(async () => {
    const problems = [];
    const table = document.querySelector("table.sortable");
    if (!table) return problems;
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head, at) => [...table.tBodies[0].rows].some(row => row.cells[at].dataset.v !== undefined));
    if (column > 0) {
      const values = () => [...table.tBodies[0].rows].map(row => row.cells[column].dataset.v).filter(value => value !== undefined).map(Number);
      heads[column].querySelector("button").click();
      if (values().some((value, at, all) => at > 0 && value < all[at - 1])) problems.push("not rising");
      heads[column].querySelector("button").click();
      if (values().some((value, at, all) => at > 0 && value > all[at - 1])) problems.push("not falling");
    }
    const input = document.querySelector(".filter input");
    if (input) {
      const name = table.tBodies[0].rows[0].cells[0].firstChild.textContent;
      input.value = name;
      input.dispatchEvent(new Event("input"));
      const shown = [...table.tBodies[0].rows].filter(row => !row.hidden);
      if (!shown.length || shown.length === table.tBodies[0].rows.length) problems.push(`the filter shows ${shown.length} rows of "${name}"`);
    }
    if (document.querySelectorAll("details.csv").length !== document.querySelectorAll("details.csv button").length) problems.push("a table cannot be copied");
    return problems;
  }));
  await page.pdf({ path: join(out, `${name}.pdf`), preferCSSPageSize: true, printBackground: true });
  await context.close();
  const plain = await browser.newContext({ viewport: { width: 1280, height: 900 }, offline: true, javaScriptEnabled: false });
  const still = await plain.newPage();
  await still.goto(url);
  const without = await still.locator("main").innerText();
  check("without scripts: all is there, and nothing that does nothing", [
    ...(without.length < 200 ? ["the page is empty"] : []),
    ...((await still.locator("button, input").count()) ? ["there are buttons"] : []),
  ]);
  await plain.close();
}
await browser.close();
process.exit(failures ? 1 : 0);
