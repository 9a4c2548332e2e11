// Everything a person does on the pages, by clicking and typing, to its end: once in English with the script, once in
// Chinese without. Each ends where the page says that it was done, and where the broker's API says that it is so.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { OPERATOR, PHONE, REASON, WIDE, confirm } from "./stage.mjs";
import { wordsOf } from "./words.mjs";

/** Each takes what it changes from its own part of the scene. */
const WAYS = [
  { nth: 0, look: { language: "en", size: WIDE, script: true } },
  { nth: 1, look: { language: "zh-CN", size: PHONE, script: false } },
];

export function everyAction(stage) {
  for (const way of WAYS) {
    const { language, script } = way.look;
    const words = wordsOf(language);
    const play = (name, scenes) => test(`${name}, ${language}${script ? "" : ", without a script"}`, () =>
      stage.visit({ ...way.look, expected: scenes.expected }, (page) => scenes(new Player(stage, page, language, words), way.nth)));
    play("a transaction is committed, and cannot be rolled back", commit);
    play("a transaction is rolled back", rollback);
    play("a transaction is checked now", check);
    play("a parked transaction is resumed", resume);
    play("nothing is done without a reason", withoutReason);
    play("one dead letter is redriven", redriveOne);
    play("selected dead letters are tried, then redriven", redriveSelected);
    play("all that match are discarded", discardMatching);
    play("dead letters are narrowed down by what they have in common", facets);
    play("one dead letter is discarded", discardOne);
    play("one dead letter is redriven to another topic", redriveElsewhere);
    play("all dead letters of a group are redriven, and drain", redriveAll);
    play("a slow job is paused, gone on with and stopped", slowJob);
    play("a dead letter is edited and sent as a new message", edit);
    play("dead letters are filtered, paged and exported", exportDeadLetters);
    play("a group is paused and resumed", pauseGroup);
    play("a group is moved after it was said what that does", seek);
    play("the policy of a group is changed", policy);
    play("a topic and a group are made, kept, subscribed and deleted", topicAndGroup);
    play("a retry comes at once, another is given up", retries);
    play("a scheduled message is moved", moveScheduled);
    play("a scheduled message is cancelled", cancelScheduled);
    play("what happened to order 42 is one search away", order42);
    play("an alarm is looked after, and a sink tested", alarm);
    play("the store is verified and backed up", store);
    play("what was done is in the audit", audit);
    play("the language is changed and remembered", changeLanguage);
  }
}

/** A page, and what is done on it again and again. */
class Player {
  constructor(stage, page, language, words) {
    Object.assign(this, { stage, scene: stage.scene, page, language, words });
  }

  async api(path) {
    const answer = await fetch(`${this.scene.http}/api/v1${path}`);
    assert.equal(answer.status, 200, path);
    return answer.json();
  }

  /** Clicks the link or button whose whole text this is. */
  async click(word) {
    const exact = new RegExp(`^\\s*${this.words(word).replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}\\s*$`);
    await this.page.locator("main a, main button").filter({ hasText: exact }).first().click();
  }

  async confirm(word, who) {
    await confirm(this.page, this.words(word), who);
  }

  async isDone() {
    await this.page.locator(".note.good", { hasText: this.words("done_note") }).waitFor();
  }

  async says(text) {
    await this.page.locator("main", { hasText: text }).waitFor();
  }

  /** The address, until it fits. */
  async at(pattern) {
    await this.page.waitForURL(pattern);
    return new URL(this.page.url()).pathname;
  }

  /** Reloads until the page says so: what is waited for is done by the broker, in its own time. */
  async saysInTime(text) {
    while (!(await this.page.locator("main").innerText()).includes(text)) await this.page.reload();
  }

  async download(click) {
    const [file] = await Promise.all([this.page.waitForEvent("download"), click()]);
    // Chromium does not report the request of a download as one.
    this.stage.note("GET", file.url());
    return { name: file.suggestedFilename(), bytes: readFileSync(await file.path()) };
  }
}

async function commit(player, nth) {
  const id = player.scene.transactions.undecided[nth];
  await player.page.goto("/transactions");
  await player.page.getByRole("link", { name: id, exact: true }).click();
  await player.click("do_commit");
  await player.says(player.words("commit_final"));
  await player.confirm("do_commit");
  await player.isDone();
  const { state, decider } = await player.api(`/transactions/${id}`);
  assert.deepEqual([state, decider.name, decider.reason], ["COMMITTED", OPERATOR, REASON]);
  assert.equal(await player.page.getByRole("link", { name: player.words("do_rollback") }).count(), 0);
}

async function rollback(player, nth) {
  const id = player.scene.transactions.undecided[2 + nth];
  await player.page.goto(`/transactions/${id}`);
  await player.click("do_rollback");
  await player.says(player.words("rollback_final"));
  await player.confirm("do_rollback");
  await player.isDone();
  assert.equal((await player.api(`/transactions/${id}`)).state, "ROLLED_BACK");
}

async function check(player, nth) {
  const id = player.scene.transactions.undecided[4 + nth];
  await player.page.goto(`/transactions/${id}`);
  await player.click("do_check");
  await player.confirm("do_check");
  await player.isDone();
  // The producer is asked, and knows nothing.
  while ((await player.api(`/transactions/${id}`)).checks_unknown === 0) await player.page.reload();
}

async function resume(player, nth) {
  const id = player.scene.transactions.parked[nth];
  await player.page.goto("/transactions?show=parked");
  await player.page.getByRole("link", { name: id, exact: true }).click();
  await player.says(player.words("why_parked"));
  await player.click("do_resume");
  await player.confirm("do_resume");
  await player.isDone();
}

async function withoutReason(player, nth) {
  const id = player.scene.transactions.undecided[4 + nth];
  await player.page.goto(`/transactions/${id}/commit`);
  // The browser itself asks for the field; a space gets past it, and not past the broker.
  await player.page.locator("#operator").fill(OPERATOR);
  await player.page.locator("form.confirm button").first().click();
  assert.equal(await player.page.locator("#reason:invalid").count(), 1);
  await player.page.locator("#reason").fill(" ");
  const [answer] = await Promise.all([player.page.waitForResponse(/commit/), player.page.locator("#reason").press("Enter")]);
  assert.equal(answer.status(), 422);
  await player.page.getByRole("alert").waitFor();
  await player.says(player.words("not_done"));
  assert.equal((await player.api(`/transactions/${id}`)).state, "PREPARED");
}
withoutReason.expected = ["status of 422"];

async function redriveOne(player, nth) {
  await player.page.goto("/dead-letters?group=billing");
  const offset = String(4 + nth);
  await player.page.getByRole("link", { name: offset, exact: true }).click();
  await player.click("do_redrive");
  await player.says(player.words("redrive_happens"));
  await player.confirm("do_redrive");
  await player.at(/dead-letters\/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  assert.equal((await fetch(`${player.scene.http}/api/v1/dead-letters/billing/${offset}`)).status, 404);
}

async function redriveSelected(player, nth) {
  const offsets = [10 + nth, 12 + nth * 2].map(String);
  const select = async () => {
    await player.page.goto("/dead-letters?group=billing");
    for (const offset of offsets) await player.page.locator(`input[name=offset][value="${offset}"]`).check();
    await player.click("redrive_selected");
    await player.says(player.words("dead_scope_selected").replace("{n}", "2"));
  };
  await select();
  await player.page.locator("#dry_run").check();
  await player.confirm("do_redrive");
  await player.at(/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  await player.says(player.words("job_dry"));
  const there = async () => Promise.all(offsets.map(async (offset) => (await fetch(`${player.scene.http}/api/v1/dead-letters/billing/${offset}`)).status));
  assert.deepEqual(await there(), [200, 200]);
  await select();
  await player.page.locator("#rate").fill("50");
  await player.confirm("do_redrive");
  await player.at(/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  assert.deepEqual(await there(), [404, 404]);
}

async function discardMatching(player, nth) {
  const key = `order-${1020 + nth}`;
  await player.page.goto("/dead-letters?group=billing");
  await player.page.locator("#key").fill(key);
  await player.click("apply");
  await player.click("discard_all");
  await player.says(player.words("discard_happens"));
  await player.confirm("do_discard");
  await player.at(/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  assert.deepEqual((await player.api(`/dead-letters?group=billing&key=${key}`)).dead_letters ?? [], []);
  assert.equal((await player.api(`/dead-letters?group=billing&key=order-${1025 + nth}`)).dead_letters.length, 1);
}

async function facets(player, nth) {
  const group = player.scene.refunds[nth];
  await player.page.goto(`/dead-letters?group=${group}`);
  const rows = player.page.locator("tbody tr");
  assert.equal(await rows.count(), 9);
  await player.page.locator(".tabs a", { hasText: "order-returned" }).click();
  await player.at(/topic=order-returned/);
  assert.equal(await rows.count(), 1);
  await player.page.locator(".tabs a", { hasText: player.words("reason_rejected") }).click();
  await player.at(/reason_is=REJECTED/);
  assert.equal(await rows.count(), 1);
  // Clicked again, it is no longer a filter.
  await player.page.locator(".tabs a[aria-current=page]", { hasText: "order-returned" }).click();
  await player.page.waitForURL((url) => !url.search.includes("order-returned"));
  assert.equal(await rows.count(), 9);
}

async function discardOne(player, nth) {
  const group = player.scene.refunds[nth];
  await player.page.goto(`/dead-letters/of/${group}/0`);
  await player.click("do_discard");
  await player.says(player.words("discard_happens"));
  await player.confirm("do_discard");
  await player.at(/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  await player.says(player.words("job_was_discarded"));
  assert.equal((await fetch(`${player.scene.http}/api/v1/dead-letters/${group}/0`)).status, 404);
}

async function redriveElsewhere(player, nth) {
  const group = player.scene.refunds[nth];
  await player.page.goto(`/dead-letters/of/${group}/1`);
  await player.click("do_redrive");
  await player.page.locator("#to_topic").fill("order-returned");
  await player.confirm("do_redrive");
  const job = await player.at(/jobs\/\d+$/);
  await player.saysInTime(player.words("job_done"));
  // The result names the message that it was sent again as.
  const { results } = await player.api(job.replace("/dead-letters", ""));
  await player.page.locator(`tbody a[href="/messages/${results[0].new_message_id}"]`).click();
  await player.says("escrow-redriven-from");
  assert.equal((await player.api(`/messages/${results[0].new_message_id}`)).message.topic, "order-returned");
}

async function redriveAll(player, nth) {
  const group = player.scene.refunds[nth];
  await player.page.goto(`/dead-letters?group=${group}`);
  const all = await player.page.locator("tbody tr").count();
  assert.equal(all, 7);
  await player.click("redrive_all");
  await player.says(player.words("redrive_nobody").replace("{group}", group));
  await player.page.locator("#rate").fill("4");
  await player.confirm("do_redrive");
  await player.at(/jobs\/\d+$/);
  // Watched until it has drained: what is done only grows, and is seen on its way.
  const seen = [];
  do {
    await player.page.reload();
    seen.push(Number(await player.page.locator("#job-progress").getAttribute("value")));
  } while (!(await player.page.locator("main").innerText()).includes(player.words("job_done")));
  assert.deepEqual(seen, seen.toSorted((one, other) => one - other));
  assert.ok(new Set(seen).size > 2 && seen.at(-1) === all, `seen on its way: ${seen}`);
  assert.equal(await player.page.locator("tbody tr", { hasText: player.words("job_was_sent") }).count(), all);
  await player.stage.screenshot(player.page, `job-results-${player.language}`);
  await player.page.locator(".tabs a", { hasText: player.words("job_refused") }).click();
  await player.says(player.words("job_no_failures"));
  assert.deepEqual((await player.api(`/dead-letters?group=${group}`)).dead_letters ?? [], []);
}

async function slowJob(player) {
  await player.page.goto("/dead-letters?group=billing&error=connection+refused");
  await player.click("redrive_all");
  await player.page.locator("#rate").fill("1");
  await player.confirm("do_redrive");
  const job = await player.at(/jobs\/\d+$/);
  await player.stage.screenshot(player.page, `job-running-${player.language}`);
  await player.click("job_pause");
  await player.saysInTime(player.words("job_paused"));
  await player.click("job_go_on");
  await player.saysInTime(player.words("job_running"));
  await player.click("job_stop");
  await player.saysInTime(player.words("job_stopped"));
  await player.page.goto("/dead-letters/jobs");
  await player.page.locator(`a[href="${job}"]`).waitFor();
  await player.stage.screenshot(player.page, `jobs-${player.language}`);
}

async function edit(player, nth) {
  await player.page.goto(`/dead-letters/of/billing/${30 + nth}`);
  await player.click("do_edit");
  await player.page.locator("#body").fill(`{"order": ${nth}, "mended": true}`);
  await player.page.locator("#headers").fill("currency: EUR");
  await player.confirm("do_edit");
  const id = (await player.at(/messages\/[0-9a-f-]{36}/)).split("/").pop();
  await player.isDone();
  const { message } = await player.api(`/messages/${id}`);
  assert.equal(message.body, `{"order": ${nth}, "mended": true}`);
  assert.deepEqual(message.headers.map(({ name }) => name), ["currency", "escrow-redriven-from"]);
}

async function exportDeadLetters(player) {
  await player.page.goto("/dead-letters?group=billing&limit=10");
  const first = await player.page.locator("tbody tr").count();
  await player.page.locator("a[rel=next]").click();
  await player.at(/cursor=/);
  assert.deepEqual([first, await player.page.locator("tbody tr").count()], [10, 10]);
  await player.page.goto("/dead-letters?group=billing&reason_is=REJECTED&key=order-42");
  assert.equal(await player.page.locator("tbody tr").count(), 1);
  // Nobody is known yet: the page asks, once.
  await player.click("export_jsonl");
  await player.says(player.words("name_for_audit"));
  const lines = await player.download(() => player.confirm("export_jsonl"));
  assert.equal(lines.name, "dead-letters.jsonl");
  assert.equal(JSON.parse(lines.bytes.toString()).message.key, "order-42");
  await player.page.goto("/dead-letters?group=billing&reason_is=REJECTED&key=order-42");
  const table = await player.download(() => player.click("export_csv"));
  assert.match(table.bytes.toString(), /^group,offset,/);
}

async function pauseGroup(player) {
  for (const [word, paused] of [["do_pause", true], ["do_resume_group", false]]) {
    await player.page.goto("/groups");
    await player.page.getByRole("link", { name: "ledger", exact: true }).click();
    await player.click(word);
    await player.confirm(word);
    await player.isDone();
    assert.equal((await player.api("/groups/ledger")).paused ?? false, paused);
  }
}

async function seek(player, nth) {
  await player.page.goto("/groups/ledger");
  await player.click("do_seek");
  await player.page.locator("#to").selectOption(nth === 0 ? "newest" : "oldest");
  await player.click("dry_run");
  await player.says(player.words("what_happens"));
  await player.confirm("seek_confirm");
  await player.isDone();
  const [{ lag }] = (await player.api("/groups/ledger")).positions;
  assert.equal(lag > 0, nth === 1);
}

async function policy(player, nth) {
  await player.page.goto("/groups/ledger");
  await player.click("do_policy");
  await player.page.locator("#max_attempts").fill(String(5 + nth));
  await player.page.locator("#lease").fill("45s");
  await player.confirm("do_policy");
  await player.isDone();
  const { settings } = await player.api("/groups/ledger");
  assert.deepEqual([settings.retry.max_attempts, settings.lease_ms], [5 + nth, 45_000]);
}

async function topicAndGroup(player, nth) {
  const [topic, group] = [`made-${nth}`, `maker-${nth}`];
  const fill = async (fields) => {
    for (const [id, text] of Object.entries(fields)) await player.page.locator(`#${id}`).fill(text);
  };
  await player.page.goto("/topics");
  await player.click("do_new_topic");
  await fill({ name: topic, keep: "2h", keep_bytes: "1GiB" });
  await player.confirm("do_new_topic");
  await player.isDone();
  await player.click("do_retention");
  await fill({ keep: "1h" });
  await player.confirm("do_retention");
  await player.isDone();
  const { settings } = await player.api(`/topics/${topic}`);
  assert.deepEqual([settings.keep_finished_ms, settings.keep_finished_bytes], [3_600_000, 1 << 30]);

  await player.page.goto("/groups");
  await player.click("do_new_group");
  await fill({ name: group, topic });
  await player.confirm("do_new_group");
  await player.isDone();
  await player.click("do_unsubscribe");
  await player.says(player.words("unsubscribe_final"));
  await player.confirm("do_unsubscribe");
  await player.isDone();
  assert.deepEqual((await player.api(`/groups/${group}`)).positions, []);
  await player.click("do_subscribe");
  await fill({ topic, tags: "gift, urgent" });
  await player.page.locator("#start").selectOption("newest");
  await player.confirm("do_subscribe");
  await player.isDone();
  const [{ tags }] = (await player.api(`/groups/${group}`)).positions;
  assert.deepEqual(tags, ["gift", "urgent"]);

  for (const [path, name] of [["groups", group], ["topics", topic]]) {
    await player.page.goto(`/${path}/${name}`);
    await player.click("do_delete");
    await player.confirm("do_delete");
    await player.isDone();
    const rest = await player.api(`/${path}?prefix=${name}`);
    assert.deepEqual(rest[path], []);
  }
}

async function retries(player, nth) {
  for (const [id, all, one] of [
    [player.scene.retries[2 * nth], "retries_selected_run", "do_run"],
    [player.scene.retries[2 * nth + 1], "retries_selected_give_up", "do_give_up"],
  ]) {
    await player.page.goto("/retries?group=mail");
    await player.page.locator(`input[name=id][value="${id}"]`).check();
    await player.click(all);
    await player.confirm(one);
    await player.isDone();
  }
  const dead = (await player.api("/dead-letters?group=mail")).dead_letters;
  assert.ok(dead.some(({ message }) => message.id === player.scene.retries[2 * nth + 1]));
}

async function moveScheduled(player, nth) {
  const id = player.scene.scheduled[2];
  await player.page.goto("/scheduled");
  await player.page.locator(`a[href="/scheduled/${id}/move"]`).click();
  const day = new Date(Date.now() + (3 + nth) * 86_400_000).toISOString().slice(0, 10);
  await player.page.locator("#to").fill(`${day} 12:00`);
  await player.confirm("do_move");
  await player.isDone();
  const { scheduled } = await player.api("/scheduled?limit=10");
  assert.equal(scheduled.find(({ message_id }) => message_id === id).deliver_at, `${day}T12:00:00.000Z`);
}

async function cancelScheduled(player, nth) {
  const id = player.scene.scheduled[nth];
  await player.page.goto("/scheduled");
  await player.page.locator(`a[href="/scheduled/${id}/cancel"]`).click();
  await player.confirm("do_cancel");
  await player.isDone();
  assert.equal((await fetch(`${player.scene.http}/api/v1/messages/${id}`)).status, 404);
}

async function order42(player) {
  await player.page.goto("/");
  await player.page.locator('.menu a[href="/messages"]').click();
  await player.page.locator("#q").fill("order-42");
  await player.click("find_button");
  await player.page.locator("tbody a[href^='/messages/']").click();
  for (const word of ["event_stored", "event_queued", "event_failed", "event_dead", "decided"]) await player.says(player.words(word));
  await player.says("account 17 is closed");
  const body = await player.download(() => player.click("download"));
  assert.deepEqual(JSON.parse(body.bytes.toString()).order, 42);
}

async function alarm(player, nth) {
  const id = player.scene.alarms[nth];
  await player.page.goto("/");
  await player.page.locator('.menu a[href="/alarms"]').click();
  await player.page.locator(`a[href="/alarms/${id}/ack"]`).click();
  await player.says(player.words("ack_happens"));
  await player.confirm("do_ack");
  await player.isDone();
  const { acknowledged_by: by, acknowledged_reason: why } = await player.api(`/alarms/${id}`);
  assert.deepEqual([by, why], [OPERATOR, REASON]);
  await player.page.goto("/alarms");
  await player.click("do_test");
  await player.says(player.words("test_taken").replace("{sink}", "oncall"));
}

async function store(player) {
  await player.page.goto("/store");
  // Nobody is known yet: the page asks, once.
  await player.click("do_backup");
  await player.says(player.words("name_for_audit"));
  await player.stage.screenshot(player.page, `who-is-it-${player.language}`);
  const backup = await player.download(() => player.confirm("do_backup"));
  await player.page.goto("/store");
  await player.click("do_verify");
  await player.page.locator(".note.good").waitFor();
  await player.page.goto("/audit?verb=store.verify");
  await player.page.locator("tbody tr", { hasText: OPERATOR }).first().waitFor();
  assert.equal(backup.name, "escrow.backup");
  assert.ok(backup.bytes.length > 1000);
}

async function audit(player, nth) {
  await player.page.goto("/audit");
  const id = player.scene.transactions.undecided[nth];
  await player.page.locator("#target").fill(id);
  await player.page.locator("#verb").selectOption("tx.commit");
  await player.click("apply");
  const row = player.page.locator("tbody tr");
  assert.equal(await row.count(), 1);
  for (const text of [OPERATOR, REASON, id]) await row.filter({ hasText: text }).waitFor();
  await player.click("export_jsonl");
  const lines = await player.download(() => player.confirm("export_jsonl"));
  assert.equal(JSON.parse(lines.bytes.toString()).target, id);
}

async function changeLanguage(player, nth) {
  const [other, word] = nth === 0 ? ["zh-CN", "死信"] : ["en", "Dead letters"];
  await player.page.goto("/topics");
  await player.page.locator(`.languages a[lang="${other}"]`).click();
  await player.page.locator(`html[lang="${other}"]`).waitFor();
  await player.page.goto("/dead-letters");
  assert.equal(await player.page.locator("h1").innerText(), word);
}
