// What a page has beside its own content: the browser's time zone, copying, keys, and news while it is looked at.
"use strict";
(() => {
  const main = document.getElementById("main");
  const each = (root, selector, act) => root.querySelectorAll(selector).forEach(act);

  // Times in the browser's zone; the title keeps UTC.
  const format = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
  });
  const localize = (root) => each(root, "time[datetime]", (time) => {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.valueOf())) time.textContent = format.format(at);
  });

  // A button behind everything that can be copied.
  const copyable = (root) => each(root, "[data-copy]", (shown) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${shown.dataset.copy.slice(0, 60)}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(shown.dataset.copy);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    shown.after(button);
  });

  const dress = (root) => { localize(root); copyable(root); };
  dress(document);

  // Rows by j and k.
  const rows = () => [...main.querySelectorAll("a[data-row]")];
  const current = () => rows().findIndex((link) => link.closest("tr").classList.contains("at"));
  const go = (step) => {
    const all = rows();
    if (all.length === 0) return;
    const from = current();
    const to = from < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(from + step, 0), all.length - 1);
    each(main, "tr.at", (row) => row.classList.remove("at"));
    all[to].closest("tr").classList.add("at");
    all[to].focus();
  };
  const help = document.getElementById("help");
  const keys = {
    "/": () => document.getElementById("search")?.focus(),
    j: () => go(1),
    k: () => go(-1),
    x: () => rows()[current()]?.closest("tr").querySelector("input[type=checkbox]")?.click(),
    p: () => document.getElementById("live")?.click(),
    "?": () => help?.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    const types = target.matches?.("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && types) target.blur();
    if (types || event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // A second click on a button does nothing while the first one is on its way.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    setTimeout(() => { delete form.dataset.sent; }, 3000);
  });

  // News. Only the marked parts change, so that forms and what is typed in them stay.
  const button = document.getElementById("live");
  const address = document.body.dataset.live;
  if (!button || !address) return;
  const title = button.title;
  const say = (text, lost, why) => {
    button.textContent = text;
    button.classList.toggle("lost", lost);
    button.title = why || title;
  };

  // What a user has chosen in a part, to be had in the part that takes its place.
  const sign = (element) => element && [element.tagName, element.id, element.getAttribute("href"), element.name, element.value,
    element.dataset.copy, element.parentElement?.id].join("|");
  const keep = (old) => ({
    checked: new Set([...old.querySelectorAll("input:checked")].map((box) => box.value)),
    open: new Map([...old.querySelectorAll("details[id]")].map((details) => [details.id, details.open])),
    at: old.querySelector("tr.at a[data-row]")?.getAttribute("href"),
    focused: old.contains(document.activeElement) ? sign(document.activeElement) : null,
    scrolled: [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft),
  });
  const restore = (fresh, kept) => {
    each(fresh, "input[type=checkbox]", (box) => { box.checked = kept.checked.has(box.value); });
    each(fresh, "details[id]", (details) => { if (kept.open.has(details.id)) details.open = kept.open.get(details.id); });
    each(fresh, "a[data-row]", (link) => { if (link.getAttribute("href") === kept.at) link.closest("tr").classList.add("at"); });
    each(fresh, ".scroll", (box, at) => { box.scrollLeft = kept.scrolled[at] ?? 0; });
    if (kept.focused) [...fresh.querySelectorAll("a, input, button, summary, select")].find((it) => sign(it) === kept.focused)?.focus();
  };
  // What is typed, chosen or marked in the part would be lost.
  const isBusy = (part) => {
    const selection = document.getSelection();
    const typed = [...part.querySelectorAll("input:not([type=checkbox]):not([type=hidden]), textarea")];
    const chosen = (select) => select.selectedIndex !== Math.max(0, [...select.options].findIndex((option) => option.defaultSelected));
    return typed.some((input) => input.value !== input.defaultValue || input === document.activeElement)
      || [...part.querySelectorAll("select")].some((select) => chosen(select) || select === document.activeElement)
      || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  };
  const shown = new Map();
  let latest = null;
  const show = () => {
    if (latest === null) return;
    const fresh = new DOMParser().parseFromString(`<main>${latest}</main>`, "text/html");
    let held = false;
    each(fresh, "[data-live][id]", (part) => {
      const old = document.getElementById(part.id);
      const html = part.innerHTML;
      if (!old || shown.get(part.id) === html) return;
      if (isBusy(old)) {
        held = true;
        return;
      }
      shown.set(part.id, html);
      const kept = keep(old);
      dress(part);
      const adopted = document.adoptNode(part);
      old.replaceWith(adopted);
      restore(adopted, kept);
    });
    if (held) say("Held", false, "News waits while you type, choose or mark text in it");
    else {
      latest = null;
      if (stream) say("Live", false);
    }
  };
  // When the user is done, what was held is shown.
  for (const done of ["selectionchange", "focusout", "change"]) document.addEventListener(done, () => setTimeout(show, 200));

  let stream = null;
  let again = 0;
  const start = () => {
    clearTimeout(again);
    stream = new EventSource(address);
    stream.addEventListener("open", () => say("Live", false));
    stream.addEventListener("main", (event) => { latest = event.data; show(); });
    stream.addEventListener("fault", (event) => say("No news", true, event.data));
    stream.addEventListener("end", (event) => { stop(); say("Ended", true, `${event.data}. Reload the page.`); });
    stream.addEventListener("error", async () => {
      say("No connection", true, "The page shows how things were before");
      if (stream?.readyState !== EventSource.CLOSED) return;
      stream = null;
      // The browser gives up after an answer that is no stream. It may be the log-in that is asked for.
      const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
      if (answer?.type === "opaqueredirect") say("Log in again", true, "The session has ended. Reload the page.");
      else again = setTimeout(start, 10000);
    });
    button.setAttribute("aria-pressed", "true");
  };
  const stop = () => {
    clearTimeout(again);
    stream?.close();
    stream = null;
    button.setAttribute("aria-pressed", "false");
    say("Paused", false);
  };
  button.addEventListener("click", () => (stream ? stop() : start()));
  // A page in the background asks for nothing.
  let hidden = document.hidden;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) {
      hidden = true;
      stop();
    } else if (!document.hidden && hidden) {
      hidden = false;
      start();
    }
  });
  button.hidden = false;
  if (!hidden) start();
})();
