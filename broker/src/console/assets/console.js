// Progressive enhancement, and nothing else: every page works without it.
// A page that says so is fetched again every few seconds and its content replaced, unless somebody is using it.
"use strict";

(() => {
  const EVERY_MS = 3000;
  const main = document.querySelector("main[data-live]");

  // One box for all boxes of a page: without a script each is ticked by itself.
  const add_choose_all = () => {
    const form = document.querySelector("form[data-choose-all]");
    if (!form) return;
    const all = document.createElement("input");
    all.type = "checkbox";
    all.setAttribute("aria-label", form.dataset.chooseAll);
    all.addEventListener("change", () => {
      for (const box of form.querySelectorAll("tbody input[type=checkbox]")) box.checked = all.checked;
    });
    form.querySelector("th").replaceChildren(all);
  };
  add_choose_all();

  if (!main) return;
  let paused = false;
  const toggle = document.createElement("button");
  toggle.type = "button";
  toggle.className = "quiet refresh";
  const label = () => { toggle.textContent = paused ? main.dataset.resume : main.dataset.pause; };
  toggle.addEventListener("click", () => { paused = !paused; label(); });
  label();
  document.querySelector("footer").prepend(toggle);

  const busy = () =>
    paused || document.hidden || main.querySelector("input:checked, details[open]") ||
    (main.contains(document.activeElement) && document.activeElement !== main &&
      document.activeElement.matches("input, select, textarea")) ||
    String(window.getSelection()).length > 0;

  // Where the reader's focus was: the same link or button after the replacement.
  const focused = () => {
    const active = document.activeElement;
    return main.contains(active) && active.href ? active.getAttribute("href") : null;
  };

  const refresh = async () => {
    if (busy()) return;
    try {
      const answer = await fetch(location.href, { headers: { "x-escrow-refresh": "1" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      if (!fresh || busy()) return;
      fresh.querySelectorAll(".note.good").forEach((note) => note.remove());
      const scrolled = [...main.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
      const href = focused();
      main.replaceChildren(...fresh.childNodes);
      add_choose_all();
      main.querySelectorAll(".scroll").forEach((region, nth) => { region.scrollLeft = scrolled[nth] || 0; });
      if (href) main.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
  };
  setInterval(refresh, EVERY_MS);
})();
