// The console without a mouse, and while it refreshes itself: what a person with a keyboard, or in the middle of typing,
// can rely on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OPERATOR, REASON } from "./stage.mjs";

/** Tab stops of a page, at most: more than any page has before its actions. */
const STOPS_MAX = 120;

/** Presses Tab until `selector` has the focus; every stop on the way can be seen. */
async function tabTo(page, selector) {
  for (let stop = 0; stop < STOPS_MAX; stop += 1) {
    await page.keyboard.press("Tab");
    const seen = await page.evaluate((wanted) => {
      const focused = document.activeElement;
      const { left, top, width, height } = focused.getBoundingClientRect();
      const style = getComputedStyle(focused);
      const marked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
      return { arrived: focused.matches(wanted), marked, shown: left >= 0 && top >= 0 && width > 0 && height > 0, html: focused.outerHTML.slice(0, 120) };
    }, selector);
    assert.ok(seen.marked && seen.shown, `the focus cannot be seen on ${seen.html}`);
    if (seen.arrived) return stop + 1;
  }
  throw new Error(`Tab never reaches ${selector}`);
}

export function withoutAMouse(stage) {
  test("the first stop leads past the menu", () =>
    stage.visit({}, async (page) => {
      await page.goto("/transactions");
      assert.equal(await tabTo(page, ".skip"), 1);
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "content");
      assert.equal(await tabTo(page, ".tabs a"), 1);
    }));

  test("a stuck transaction is found and decided with the keyboard alone", () =>
    stage.visit({}, async (page) => {
      const id = stage.scene.transactions.waiting;
      await page.goto("/");
      await tabTo(page, '.tile[href="/transactions?show=waiting"]');
      await Promise.all([page.waitForURL(/show=waiting/), page.keyboard.press("Enter")]);
      await tabTo(page, `a[href="/transactions/${id}"]`);
      await Promise.all([page.waitForURL(new RegExp(`${id}$`)), page.keyboard.press("Enter")]);
      await tabTo(page, `a[href$="/commit"]`);
      await Promise.all([page.waitForURL(/commit$/), page.keyboard.press("Enter")]);
      await tabTo(page, "#operator");
      await page.keyboard.type(OPERATOR);
      assert.equal(await tabTo(page, "#reason"), 1, "the reason comes after the name");
      await page.keyboard.type(REASON);
      assert.equal(await tabTo(page, "form.confirm button"), 1, "the button comes after the reason");
      await Promise.all([page.waitForURL(/done=1/), page.keyboard.press("Enter")]);
      await page.getByRole("status").waitFor();
      const { state } = await (await fetch(`${stage.scene.http}/api/v1/transactions/${id}`)).json();
      assert.equal(state, "COMMITTED");
    }));

  test("a table that is too wide scrolls with the keyboard", () =>
    stage.visit({ size: { width: 390, height: 844 } }, async (page) => {
      await page.goto("/transactions");
      await tabTo(page, ".scroll");
      await page.keyboard.press("ArrowRight");
      await page.waitForFunction(() => document.querySelector(".scroll").scrollLeft > 0);
    }));
}

export function whileItRefreshes(stage) {
  const changeSomething = async () => {
    const [group, how] = ["ledger", { "content-type": "application/json" }];
    const { paused } = await (await fetch(`${stage.scene.http}/api/v1/groups/${group}`)).json();
    const verb = paused ? "resume" : "pause";
    const body = JSON.stringify({ operator: { name: OPERATOR, reason: REASON } });
    const done = await fetch(`${stage.scene.http}/api/v1/groups/${group}/${verb}`, { method: "POST", headers: how, body });
    assert.equal(done.status, 200);
  };
  const state = (page) => page.locator("tr", { hasText: "ledger" }).locator(".state").innerText();

  test("a page that is looked at follows what happens", () =>
    stage.visit({}, async (page) => {
      await page.goto("/groups");
      const before = await state(page);
      await changeSomething();
      await page.locator("tr", { hasText: "ledger" }).locator(".state", { hasNotText: before }).waitFor();
      await changeSomething();
      await page.locator("tr", { hasText: "ledger" }).locator(".state", { hasText: before }).waitFor();
    }));

  test("a page in use stays as it is, and so does one that was told to", () =>
    stage.visit({}, async (page) => {
      // A refresh is a request that says so: none is made while something is typed, ticked or held.
      let refreshed = 0;
      page.on("request", (request) => { if (request.headers()["x-escrow-refresh"]) refreshed += 1; });
      await page.clock.install();
      const refreshesIn = async (address, prepare) => {
        await page.goto(address);
        await prepare();
        refreshed = 0;
        await page.clock.runFor(10_000);
        return refreshed;
      };
      assert.ok((await refreshesIn("/groups", async () => {})) > 0, "a page at rest refreshes");
      assert.equal(await refreshesIn("/groups", () => page.locator("#prefix").fill("led")), 0);
      assert.equal(await refreshesIn("/dead-letters?group=billing", () => page.locator("input[name=offset]").first().check()), 0);
      assert.equal(await refreshesIn("/groups", () => page.locator("footer .refresh").click()), 0);
    }));

  test("all boxes of a page are ticked at once", () =>
    stage.visit({}, async (page) => {
      await page.goto("/dead-letters?group=billing");
      await page.locator("form[data-choose-all] th input").check();
      const [boxes, ticked] = [await page.locator("input[name=offset]").count(), await page.locator("input[name=offset]:checked").count()];
      assert.ok(boxes > 1 && boxes === ticked, `${ticked} of ${boxes}`);
    }));
}
