// Copying, themes and printing; then the start of the page.

async function copyText(text, button) {
  const label = button.firstChild;
  const before = label.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission, or from a file in some browsers.
    const area = make("textarea", {}, text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  label.textContent = "Copied";
  setTimeout(() => { label.textContent = before; }, 1500);
}

const root = document.documentElement;
const THEMES = ["system", "light", "dark"];
const button = document.getElementById("theme");

function setTheme(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  button.textContent = `Theme: ${name}`;
  redraw();
}

function startThemes() {
  let theme = "system";
  try { theme = localStorage.getItem("nccl-bench theme") || theme; } catch { /* a file in some browsers */ }
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("nccl-bench theme", theme); } catch { /* the choice holds until the page is closed */ }
    setTheme(theme);
  });
  setTheme(THEMES.includes(theme) ? theme : "system");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => { for (const figure of [...waiting.keys()]) drawOnce(figure); setTheme("light"); });
  addEventListener("afterprint", () => setTheme(theme));
}

document.querySelectorAll(".scroll").forEach(hinted);
startThemes();
fillControls();
if (data.charts) showKind();
document.querySelectorAll(".numbers").forEach(fillNumbers);
document.querySelectorAll("[data-copy]").forEach((each) => each.addEventListener("click", () => copyText(each.dataset.copy, each)));
