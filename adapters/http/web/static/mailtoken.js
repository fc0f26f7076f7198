// The script of the pages besides htmx: a button that copies, and a clock that counts down.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = button.dataset.copied;
  } catch {
    // Without the permission to copy, the script at least selects the text.
    getSelection().selectAllChildren(source);
  }
});

function left(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function countDown() {
  for (const clock of document.querySelectorAll("[data-countdown]")) {
    clock.textContent = left(new Date(clock.dateTime) - Date.now());
  }
}

if (document.querySelector("[data-countdown]")) {
  countDown();
  setInterval(countDown, 1000);
}
