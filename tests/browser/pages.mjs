// Every page, as it is: in both languages, on a phone and on a wide screen, light and dark. axe finds nothing, nothing
// sticks out, every word is translated; each leaves a screenshot for a person to look at.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE, WIDE, accessible, fits, translated } from "./stage.mjs";

/** Each language, size and colour meets each other of the other kinds. */
const LOOKS = [
  { language: "en", size: WIDE, scheme: "light" },
  { language: "zh-CN", size: WIDE, scheme: "dark" },
  { language: "zh-CN", size: PHONE, scheme: "light" },
  { language: "en", size: PHONE, scheme: "dark" },
];

function pages({ message, retries, scheduled, transactions, alarms }) {
  const [undecided] = transactions.undecided;
  const [parked] = transactions.parked;
  return {
    overview: "/",
    transactions: "/transactions",
    "transactions-none": "/transactions?key=nobody",
    "transactions-waiting": "/transactions?show=waiting",
    "transactions-parked": "/transactions?show=parked",
    "transactions-decided": "/transactions?show=decided",
    transaction: `/transactions/${undecided}`,
    "transaction-waiting": `/transactions/${transactions.waiting}`,
    "transaction-parked": `/transactions/${parked}`,
    "transaction-rolled-back": `/transactions/${transactions.rolled_back}`,
    "transaction-check": `/transactions/${undecided}/check`,
    "transaction-commit": `/transactions/${undecided}/commit`,
    "transaction-rollback": `/transactions/${undecided}/rollback`,
    "transaction-resume": `/transactions/${parked}/resume`,
    "dead-letters": "/dead-letters",
    "dead-letters-of-a-group": "/dead-letters?group=billing",
    "dead-letters-none-match": "/dead-letters?group=billing&key=nobody&reason_is=EXPIRED&from=2026-01-01",
    "dead-letter": "/dead-letters/of/billing/0",
    "dead-letter-hostile": "/dead-letters/of/billing/1",
    "dead-letter-long": "/dead-letters/of/billing/2",
    "dead-letter-edit": "/dead-letters/of/billing/0/edit",
    "redrive-all": "/dead-letters/of/billing/redrive",
    "redrive-one": "/dead-letters/of/billing/redrive?offset=0",
    discard: "/dead-letters/of/billing/discard?key=order-42",
    jobs: "/dead-letters/jobs",
    retries: "/retries?group=mail",
    "retries-run": `/retries/of/mail/run?id=${retries[0]}&id=${retries[1]}`,
    "retries-give-up": `/retries/of/mail/give-up?id=${retries[0]}`,
    scheduled: "/scheduled",
    "scheduled-move": `/scheduled/${scheduled[0]}/move`,
    "scheduled-cancel": `/scheduled/${scheduled[0]}/cancel`,
    "messages-none": "/messages",
    "messages-found": "/messages?q=order-42",
    "messages-not-found": "/messages?q=nobody",
    message: `/messages/${message}`,
    "message-text": `/messages/${message}?as=text`,
    "message-hex": `/messages/${message}?as=hex`,
    topics: "/topics",
    topic: "/topics/order-paid",
    "topic-new": "/new/topic",
    "topic-retention": "/topics/order-paid/retention",
    "topic-delete": "/topics/order-paid/delete",
    groups: "/groups",
    "groups-none": "/groups?prefix=nobody",
    group: "/groups/billing",
    "group-idle": "/groups/ledger",
    "group-pause": "/groups/billing/pause",
    "group-resume": "/groups/billing/resume",
    "group-policy": "/groups/billing/policy",
    "group-seek": "/groups/ledger/seek",
    "group-new": "/new/group",
    "group-subscribe": "/groups/ledger/subscribe",
    "group-unsubscribe": "/groups/ledger/unsubscribe?topic=order-paid",
    "group-delete": "/groups/ledger/delete",
    "group-seek-tried": "/groups/ledger/seek?topic=order-paid&to=newest",
    clients: "/clients",
    "clients-none": "/clients?name=nobody",
    "retries-none": "/retries?group=mail&attempt_min=9",
    "scheduled-none": "/scheduled?key=nobody",
    store: "/store",
    alarms: "/alarms",
    "alarms-all": "/alarms?show=all",
    "alarm-ack": `/alarms/${alarms[0]}/ack`,
    audit: "/audit",
    "audit-none": "/audit?who=nobody",
  };
}

export function everyPage(stage) {
  test("every page in its looks", async (all) => {
    for (const [name, address] of Object.entries(pages(stage.scene))) {
      for (const look of LOOKS) {
        const what = `${name}-${look.language}-${look.size === PHONE ? "phone" : "wide"}-${look.scheme}`;
        await all.test(what, () =>
          stage.visit(look, async (page) => {
            const answer = await page.goto(address);
            assert.equal(answer.status(), 200);
            assert.equal(await page.locator("html").getAttribute("lang"), look.language);
            assert.equal(await page.locator("h1").count(), 1);
            await stage.screenshot(page, what);
            await fits(page, what);
            if (look.language !== "en") await translated(page, what);
            await accessible(page, what);
          }),
        );
      }
    }
  });

  test("pages that say no", async (all) => {
    const refused = { "no-page": ["/nowhere", 404], "no-transaction": ["/transactions/tx-0-99", 404], "no-id": ["/transactions/42", 400] };
    for (const [name, [address, status]] of Object.entries(refused)) {
      await all.test(name, () =>
        stage.visit({ language: "zh-CN", size: PHONE, expected: [`status of ${status}`] }, async (page) => {
          assert.equal((await page.goto(address)).status(), status);
          await stage.screenshot(page, name);
          await fits(page, name);
          await accessible(page, name);
        }),
      );
    }
  });
}
