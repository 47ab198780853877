// Shows times in the reader's time zone, and replaces the content by the latest every few seconds.
"use strict";
const format = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
function localize(root) {
  for (const time of root.querySelectorAll("time")) {
    time.textContent = format.format(new Date(time.dateTime));
  }
}
// The page changes as tables are scrolled, so the last fetched content is compared.
let current = null;
async function refresh() {
  if (document.hidden || !getSelection().isCollapsed) return;
  const answer = await fetch(location.href);
  if (answer.status === 401) location.reload(); // another server: its page explains how to open it
  if (!answer.ok) return;
  const page = await answer.text();
  // Only this part: the page's own style would be one more that the policy forbids.
  const part = page.slice(page.indexOf("<main>"), page.indexOf("</main>"));
  const main = new DOMParser().parseFromString(part, "text/html").querySelector("main");
  if (main === null || main.innerHTML === current) return;
  current = main.innerHTML;
  localize(main);
  const scrolled = {};
  for (const table of document.querySelectorAll(".scroll")) scrolled[table.ariaLabel] = table.scrollLeft;
  document.querySelector("main").replaceWith(main);
  for (const table of main.querySelectorAll(".scroll")) table.scrollLeft = scrolled[table.ariaLabel] ?? 0;
}
async function keepRefreshing() {
  try {
    await refresh();
    document.body.classList.remove("stopped");
  } catch {
    document.body.classList.add("stopped"); // the server is gone
  }
  setTimeout(keepRefreshing, 3000);
}
current = document.querySelector("main").innerHTML;
localize(document);
setTimeout(keepRefreshing, 3000);
