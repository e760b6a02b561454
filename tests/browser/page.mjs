// The ops page in a real browser: what a person sees and does, what the browser loads, and whether everybody can read it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { once } from "node:events";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = new URL("../../docs/screenshots/", import.meta.url).pathname;
const BYTES_MAX = 100_000;
const SCREENSHOT_BYTES_MAX = 150_000;
const PARTS = ["/", "/events", "/batches", "/messages", "/notifications", "/dead"];

const sql = (query) => execFileSync(`${process.env.PG_BIN}/psql`, ["-X", "-q", "-A", "-t", "-d", "postgres", "-c", query], { encoding: "utf8" }).trim();

// A port on which nobody listens.
async function free_port() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

// Ends with this process, however that ends.
const programs = [];
function start(program, args, variables) {
  const child = spawn(`target/debug/${program}`, args, { env: { PATH: process.env.PATH, ...variables }, stdio: ["ignore", "pipe", "inherit"] });
  child.stdout.resume();
  programs.push(child);
  return child;
}
process.on("exit", () => programs.forEach((child) => child.kill("SIGKILL")));

async function until(what, holds) {
  const deadline = Date.now() + 30_000;
  while (!(await holds().catch(() => false))) {
    assert(Date.now() < deadline, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const [ops_port, api_port] = [await free_port(), await free_port()];
const origin = `http://127.0.0.1:${ops_port}`;
start("restante", ["simulate", `--listen=127.0.0.1:${api_port}`, "--api-key=sk-ant-of-the-browser-test"], {});
start("restante-worker", [], {
  DATABASE_URL: process.env.DATABASE_URL,
  ANTHROPIC_API_KEY: "sk-ant-of-the-browser-test",
  ANTHROPIC_BASE_URL: `http://127.0.0.1:${api_port}`,
  RESTANTE_OPS_LISTEN: `127.0.0.1:${ops_port}`,
  RESTANTE_OPS_REPLAY: "true",
  RESTANTE_RECONCILE_SECONDS: "0",
  RESTANTE_LOG: "text",
});
await until("the worker", async () => (await fetch(`${origin}/readyz`)).ok);
const is_whole = async (part) => !(await (await fetch(origin + part)).text()).includes(" data-awaited ");
await until("every panel", async () => (await Promise.all(PARTS.map(is_whole))).every(Boolean));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// A window of a kind; everything that it asks for is noted.
async function window(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => assert.notEqual(message.type(), "error", message.text()));
  return { context, page, asked };
}

const tests = {
  async "the strip says whether all is well and what to do next"() {
    const { page } = await window({});
    await page.goto(origin);
    assert.match(await page.locator(".verdict").innerText(), /(Yes|No)\b.*answers/);
    assert.equal(await page.locator(".strip li").count(), 10);
    const dead = page.locator(".strip li", { hasText: "given up" });
    assert.match(await dead.innerText(), /act[\s\S]*10 events are given up[\s\S]*Next: select/);
  },

  async "every part loads less than 100 KB, and nothing from another host"() {
    for (const part of PARTS) {
      const { page, asked, context } = await window({});
      const answers = [];
      page.on("response", (response) => answers.push(response));
      await page.goto(origin + part, { waitUntil: "networkidle" });
      const bodies = await Promise.all(answers.map((answer) => answer.body()));
      const bytes = bodies.reduce((sum, body) => sum + body.length, 0);
      assert(asked.length >= 3, `${part}: only ${asked.length} requests were seen`);
      for (const url of asked) assert.equal(new URL(url).origin, origin, url);
      assert(bytes > 15_000 && bytes < BYTES_MAX, `${part}: ${bytes} bytes`);
      console.log(`     ${part}: ${bytes} bytes in ${asked.length} requests`);
      await context.close();
    }
  },

  async "a search finds an event, and its timeline tells its life"() {
    const { page } = await window({});
    await page.goto(origin);
    await page.keyboard.press("/");
    await page.waitForURL(/\/events/);
    await page.locator("#find:focus").waitFor();
    await page.keyboard.type("sesn_held_3");
    await page.keyboard.press("Enter");
    await page.waitForURL(/find=sesn_held_3/);
    assert.equal(await page.locator("#events tbody tr").count(), 3);
    await page.getByRole("link", { name: /^whe_/ }).first().click();
    await page.waitForURL(/\/events\/\d+/);
    for (const step of ["It was received", "Events of its key that came first", "It waits"]) {
      assert(await page.getByRole("heading", { name: step }).isVisible(), step);
    }
    await page.goto(`${origin}/events/${sql("select min(id) from restante.outbox where status = 'dead'")}`);
    const told = page.locator(".timeline li", { hasText: "Its notifications" });
    assert.match(await told.innerText(), /billing[\s\S]*retry[\s\S]*502/);
    await told.getByRole("link").first().click();
    await page.getByRole("heading", { name: "How its endpoint answered" }).waitFor();
    await page.goto(`${origin}/events`);
    await page.getByLabel("Text of an error").fill("SKU-4711");
    await page.getByRole("button", { name: "Search" }).click();
    await page.waitForURL(/error=SKU-4711/);
    assert((await page.locator("#events tbody tr").count()) >= 7);
  },

  async "a person replays a dead letter, sees it done, and stands in the log of operations"() {
    const { page } = await window({});
    await page.goto(`${origin}/dead`);
    await page.locator("#dead tbody tr", { hasText: "order.placed" }).first().getByRole("link", { name: "Replay…" }).click();
    await page.waitForURL(/\/events\/\d+/);
    const id = page.url().match(/events\/(\d+)/)[1];
    assert.equal(sql(`select status from restante.outbox where id = ${id}`), "dead");
    await page.getByRole("button", { name: "Replay" }).click();
    assert(await page.locator("#person:invalid").count(), "nobody replays without a name");
    await page.getByLabel("Your name").fill("Ada Lovelace");
    await page.getByLabel("Reason").fill("the stock was counted again");
    await page.getByRole("button", { name: "Replay" }).click();
    await page.getByRole("status").filter({ hasText: "It is replayed" }).waitFor();
    assert.equal(sql(`select who || ', ' || what || ', ' || reason from restante.operation order by id desc limit 1`),
      "Ada Lovelace, replay, the stock was counted again");
    // No handler takes its type here, so the worker ignores it. The page shows that without being loaded again.
    await page.locator("#event-status .state", { hasText: "ignored" }).waitFor({ timeout: 30_000 });
    await page.goto(origin);
    await page.locator("#operations", { hasText: "Ada Lovelace" }).waitFor();
  },

  async "a panel that is being looked up is filled in soon, also while the page is paused"() {
    const { page } = await window({});
    await page.addInitScript(() => sessionStorage.setItem("paused", "1"));
    let looks = 0;
    await page.route(`${origin}/`, async (route) => {
      looks += 1;
      const answer = await route.fetch();
      const { "content-length": _, ...headers } = answer.headers();
      const text = await answer.text();
      // As the first look finds it while the answer takes long.
      const body = looks > 1 ? text : text.replace('id="work" data-live', '$& data-awaited').replace(/<ul class="tiles">.*?<\/ul>/s, "<p>This is being looked up.</p>");
      await route.fulfill({ status: answer.status(), headers, body });
    });
    await page.goto(origin);
    await page.locator("#work", { hasText: "This is being looked up." }).waitFor();
    await page.locator("#work .tiles").waitFor();
    assert.equal(await page.locator("[data-awaited]").count(), 0);
    assert.equal(await page.locator("#live").innerText(), "Paused");
  },

  async "a form of another site, or without its token, changes nothing"() {
    const before = sql("select count(*) from restante.operation");
    const id = sql("select min(id) from restante.outbox where status = 'dead'");
    const server = await free_port();
    const { createServer: http } = await import("node:http");
    const evil = http((_, answer) => answer.setHeader("content-type", "text/html").end(
      `<form id="f" method="post" action="${origin}/events/${id}/replay"><input name="token" value="0"><input name="person" value="Eve"></form><script>f.submit()</script>`));
    evil.listen(server, "127.0.0.1");
    const context = await browser.newContext();
    const page = await context.newPage();
    // The browser itself sends the form, from a name that is another site's.
    const answered = page.waitForResponse((response) => response.url().includes("/replay"));
    await page.goto(`http://localhost:${server}/`);
    assert.equal((await answered).status(), 403);
    evil.close();
    await page.goto(`${origin}/events/${id}`);
    await page.locator("input[name=token]").evaluate((field) => { field.value = "00".repeat(32); });
    await page.getByLabel("Your name").fill("Eve");
    const forged = page.waitForResponse((response) => response.url().includes("/replay"));
    await page.getByRole("button", { name: "Replay" }).click();
    assert.equal((await forged).status(), 403);
    assert.equal(sql("select count(*) from restante.operation"), before);
    assert.equal(sql(`select status from restante.outbox where id = ${id}`), "dead");
  },

  async "it works without JavaScript, and by the keyboard alone"() {
    const { page } = await window({ javaScriptEnabled: false });
    await page.goto(origin);
    assert.equal(await page.locator(".strip li").count(), 10);
    assert.equal(await page.locator("button:visible").count(), 0, "no button that would do nothing");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Dead letters" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/dead/);
    assert((await page.locator("#dead tbody tr").count()) >= 9);
    await page.locator("#dead details.sql summary").focus();
    await page.keyboard.press("Enter");
    assert.match(await page.locator("#dead details.sql pre").innerText(), /^select .* from restante\.outbox_dead/);
  },

  async "a payload is hidden until somebody asks for it"() {
    const { page } = await window({});
    const id = sql("select min(id) from restante.outbox where status = 'dead'");
    await page.goto(`${origin}/events/${id}`);
    assert(!(await page.content()).includes("&quot;type&quot;"));
    await page.getByRole("link", { name: "Show its payload" }).click();
    await page.locator("pre.body", { hasText: '"type"' }).waitFor();
  },

  async "everybody can read it: contrast, labels, headings, in light and dark, on a screen and on a phone"() {
    const dead = sql("select min(id) from restante.outbox where status = 'dead'");
    for (const colorScheme of ["light", "dark"]) {
      for (const viewport of [{ width: 1360, height: 900 }, { width: 390, height: 844 }]) {
        const { page, context } = await window({ colorScheme, viewport, bypassCSP: true });
        for (const part of [...PARTS, `/events/${dead}`, "/messages/1", "/dead/replay?type=order.placed&kind=handler"]) {
          await page.goto(origin + part);
          await page.addScriptTag({ content: AXE });
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          const told = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
          assert.deepEqual(told, [], `${part}, ${colorScheme}, ${viewport.width} px`);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.equal(wide, 0, `${part} is wider than ${viewport.width} px by ${wide}`);
        }
        await context.close();
      }
    }
  },

  async "the screenshots of the README are made"() {
    mkdirSync(SHOTS, { recursive: true });
    const wide = { width: 1280, height: 1000 };
    const event = sql("select min(id) from restante.outbox where status = 'dead'");
    for (const [name, part, options] of [
      ["page-light", "/", { viewport: wide, colorScheme: "light" }],
      ["page-dark", "/", { viewport: wide, colorScheme: "dark" }],
      ["page-event", `/events/${event}`, { viewport: { width: 1280, height: 760 }, colorScheme: "light" }],
      ["page-phone", "/", { viewport: { width: 390, height: 844 }, colorScheme: "light" }],
      ["page-batches", "/batches", { viewport: { width: 1280, height: 620 }, colorScheme: "dark" }],
    ]) {
      const { page, context } = await window(options);
      await page.goto(origin + part, { waitUntil: "networkidle" });
      await page.waitForFunction(() => !document.querySelector("[data-awaited]"));
      const image = await page.screenshot({ path: `${SHOTS}${name}.png` });
      assert(image.length < SCREENSHOT_BYTES_MAX, `${name}: ${image.length} bytes`);
      await context.close();
    }
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
await browser.close();
process.exit(failed === 0 ? 0 : 1);
