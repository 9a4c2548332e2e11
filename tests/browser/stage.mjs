// The stage of the browser tests: a broker with a scene (tests/examples/scene.rs), a real Chromium, and pages in it that
// report whatever goes wrong by itself: an error in the console, a breach of the content policy, a request that fails or
// that leaves the broker. Judges nothing of what a page shows.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const INSTALLED = createRequire(join(ROOT, "target/browser/"));
const { chromium } = INSTALLED("playwright-core");
const AXE = readFileSync(INSTALLED.resolve("axe-core/axe.min.js"), "utf8");
const SCREENSHOTS = join(ROOT, "target/screenshots");

export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };
/** Who does things here, and why. */
export const OPERATOR = "Ada 王";
export const REASON = "found in the ledger";

/** Where Debian and others put it; CHROMIUM says otherwise. */
function chromiumPath() {
  const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
  const found = places.find((place) => place && existsSync(place));
  assert.ok(found, "there is no Chromium; install Debian's package `chromium`, or say where it is with CHROMIUM=");
  return found;
}

/** The routes of the console, from its source: a page that is added there needs a test here. */
function routes() {
  const source = readFileSync(join(ROOT, "broker/src/console/pages/mod.rs"), "utf8").replace(/\s+/g, " ");
  const route = /\.route\( ?"([^"]+)", (.*?)(?=\.route\(|\}$)/g;
  return [...source.matchAll(route)].flatMap(([, path, does]) => [
    ...(/show\(/.test(does) ? [`GET ${path}`] : []),
    ...(/act\(/.test(does) ? [`POST ${path}`] : []),
  ]);
}

export class Stage {
  static async set() {
    const stage = new Stage();
    mkdirSync(SCREENSHOTS, { recursive: true });
    stage.process = spawn(join(ROOT, "target/debug/examples/scene"), { stdio: ["pipe", "pipe", "inherit"] });
    const line = await createInterface({ input: stage.process.stdout })[Symbol.asyncIterator]().next();
    assert.ok(!line.done, "the scene ended before it was set");
    stage.scene = JSON.parse(line.value);
    // As root, which is what a container is, Chromium has no sandbox of its own; it opens our pages only.
    stage.chromium = await chromium.launch({ executablePath: chromiumPath(), args: ["--no-sandbox"] });
    stage.routes = routes();
    stage.asked = new Set();
    return stage;
  }

  async strike() {
    await this.chromium?.close();
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stdin.end();
    assert.equal(await ended, 0, "the scene did not end well");
  }

  /** The route of an address, and the routes nobody asked for. */
  routeOf(method, path) {
    const parts = path.split("/");
    const fits = (pattern) => {
      const [wanted, ...rest] = pattern.split(" ");
      const of = rest.join(" ").split("/");
      return wanted === method && of.length === parts.length && of.every((part, nth) => part.startsWith("{") || part === parts[nth]);
    };
    // What is spelt out goes before what stands for anything.
    return this.routes.filter(fits).sort((a, b) => a.split("{").length - b.split("{").length)[0];
  }

  /** That the route of this address was asked for. */
  note(method, url) {
    const route = this.routeOf(method, new URL(url).pathname);
    if (route) this.asked.add(route);
  }

  neverAsked() {
    return this.routes.filter((route) => !this.asked.has(route));
  }

  /** Opens a page for the length of `play`. */
  async visit({ language = "en", size = WIDE, scheme = "light", script = true, expected = [] }, play) {
    const context = await this.chromium.newContext({
      baseURL: this.scene.http,
      viewport: size,
      colorScheme: scheme,
      locale: language,
      javaScriptEnabled: script,
      reducedMotion: "reduce",
      isMobile: size === PHONE,
      hasTouch: size === PHONE,
    });
    const wrong = [];
    try {
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      page.on("console", (said) => {
        if (said.type() === "error" && !expected.some((text) => said.text().includes(text))) wrong.push(said.text());
      });
      page.on("pageerror", (error) => wrong.push(`a script failed: ${error}`));
      page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
      page.on("request", (request) => {
        const { origin } = new URL(request.url());
        if (origin !== this.scene.http) wrong.push(`a request left the broker: ${request.url()}`);
        this.note(request.method(), request.url());
      });
      const found = await play(page, context);
      assert.deepEqual(wrong, [], "the browser reports");
      return found;
    } finally {
      await context.close();
    }
  }

  async screenshot(page, name) {
    await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
  }
}

/** Everything axe knows, also what it only advises. */
export async function accessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const found = violations.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html.slice(0, 200)}`));
  assert.deepEqual(found, [], `axe finds on ${what}`);
}

/** Nothing sticks out of the window; what is wide scrolls in a frame of its own. */
export async function fits(page, what) {
  const wide = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const within = ".scroll, .menu, pre, .heard, .skip";
    return [...document.body.querySelectorAll("*")]
      .filter((element) => !element.parentElement.closest(within) && !element.matches(".heard, .skip"))
      .filter((element) => element.getBoundingClientRect().right > width + 1)
      .map((element) => element.outerHTML.slice(0, 160));
  });
  assert.deepEqual(wide, [], `sticks out of ${what}`);
  // Also by what has no place of its own, such as words that are only heard.
  const [scrolls, shows] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(scrolls <= shows, `${what} is ${scrolls} wide, and the window ${shows}`);
}

/** Every word that is ours is Chinese; names of things and what came from outside may be anything. */
export async function translated(page, what) {
  const foreign = await page.evaluate(() => {
    const ours = "h1, h2, h3, th, dt, label, legend, button, .button, .help, .lead, .empty, .note, .state, figcaption, option, " +
      ".tabs a, .menu a, .tile .label, .happens li, .timeline strong, footer span, footer a, .skip";
    const names = /^(JSON|JSONL|CSV|OpenAPI|ID|URL|Webhook|SMTP|API|#|[\d\s.,:%/()–-]*|[\w.-]+( \(\d+\))?)$/;
    return [...document.querySelectorAll(ours)]
      .map((element) => [element.tagName, element.textContent.trim()])
      .filter(([tag, text]) => text && !/\p{Script=Han}/u.test(text) && !(names.test(text) && (tag === "OPTION" || tag === "H1" || tag === "A" || !/[a-z]{3}/.test(text))))
      .map(([tag, text]) => `${tag}: ${text}`);
  });
  assert.deepEqual(foreign.filter((text) => !text.endsWith(": OpenAPI")), [], `not translated on ${what}`);
}

/** Types who and why into the page that asks, sends it, and waits for the page it leads to. */
export async function confirm(page, button, { operator = OPERATOR, reason = REASON } = {}) {
  await page.locator("#operator").fill(operator);
  await page.locator("#reason").fill(reason);
  await page.locator("form.confirm button[type=submit]", { hasText: button }).click();
}
