"use strict";

// --- tables that sort: ascending, descending, as they were; numbers by value, what is missing last ---

const collator = new Intl.Collator(undefined, { numeric: true });

function keyOf(cell) {
  const text = (cell.dataset.value ?? cell.textContent).trim().replaceAll("−", "-").replace(/^[<>]\s*/, "");
  return { text, number: /^[-+]?[\d.]/.test(text) ? parseFloat(text) : NaN, missing: text === "" || text === "–" };
}

function order(first, second, numbers) {
  if (first.missing || second.missing) return first.missing - second.missing;
  return numbers ? first.number - second.number : collator.compare(first.text, second.text);
}

function sort(table, place, direction) {
  const body = table.tBodies[0];
  const rows = table.asTheyWere.map((row) => ({ row, key: keyOf(row.cells[place]) }));
  const numbers = rows.every(({ key }) => key.missing || !Number.isNaN(key.number));
  const turn = (a, b) => (a.key.missing || b.key.missing ? 1 : direction) * order(a.key, b.key, numbers);
  body.append(...(direction ? rows.sort(turn) : rows).map(({ row }) => row));
}

function sortable(table) {
  table.asTheyWere = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort] ?? (head.ariaSort ? null : "ascending");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      sort(table, place, next ? (next === "ascending" ? 1 : -1) : 0);
    });
  });
}

for (const table of document.querySelectorAll("table")) if (table.tBodies[0]?.rows.length > 1) sortable(table);

// --- commands to copy ---

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  throw Error("no clipboard");
}

for (const code of document.querySelectorAll("code.copy")) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "copy" });
  button.setAttribute("aria-label", `copy ${code.textContent}`);
  button.addEventListener("click", async () => {
    try {
      await copy(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 2000);
  });
  code.after(button);
}

// --- structures that are turned: chemiscope's script is loaded when somebody asks for it ---

let script;

function load(source) {
  script ??= new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: source });
    element.onload = () => resolve(globalThis.Chemiscope);
    element.onerror = () => reject(Error(`${source} is not beside this page`));
    document.head.append(element);
  });
  return script;
}

// What chemiscope's 3Dmol looks through: a camera 150 Å away whose field of view is 20°; this one sees all atoms, from aside.
function camera({ x, y, z }) {
  const [a, b, c] = [x, y, z].map((values) => (Math.min(...values) + Math.max(...values)) / 2);
  const reach = 1.5 + Math.max(...x.map((_, n) => Math.hypot(x[n] - a, y[n] - b, z[n] - c)));
  const center = { x: -a, y: -b, z: -c };
  const eye = { x: center.x + 0.3, y: center.y + 0.2, z: center.z + 1 };
  return { center, eye, up: { x: 0, y: 1, z: 0 }, zoom: 150 - reach / Math.tan(Math.PI / 18) };
}

const ENERGY = "local energy from the mean (eV)";

async function show(chemiscope, stage, one) {
  const [structure, meta, info] = ["div", "div", "div"].map((name) => document.createElement(name));
  structure.className = "turning";
  meta.hidden = info.hidden = true;
  stage.replaceChildren(structure, meta, info);
  const { size, names, x, y, z, cell, energies } = one;
  const properties = { atoms: { target: "structure", values: [size] } };
  const view = { bonds: true, unitCell: Boolean(cell), color: { property: "element" }, camera: camera(one) };
  const data = { meta: { name: "structure" }, structures: [{ size, names, x, y, z, cell }], properties, settings: { structure: [view] } };
  if (energies) {
    properties[ENERGY] = { target: "atom", values: energies };
    data.environments = energies.map((_, center) => ({ structure: 0, center, cutoff: 3 }));
    Object.assign(view, { color: { property: ENERGY, palette: "viridis" }, environments: { activated: false } });
  }
  const warnings = new chemiscope.Warnings();
  const said = [];
  warnings.addHandler((message) => said.push(message));
  await chemiscope.StructureVisualizer.load({ structure, meta, info }, data, warnings);
  return said.join("; ");
}

for (const box of document.querySelectorAll(".viewer")) {
  const [stage, choice, words] = [".stage", "select", ".words"].map((name) => box.querySelector(name));
  const structures = JSON.parse(document.getElementById(box.dataset.structures).textContent);
  async function turn() {
    try {
      words.textContent = "loading";
      stage.hidden = false;
      const one = structures[choice.value];
      const said = await show(await load(box.dataset.script), stage, one);
      words.textContent = said || (one.energies ? "coloured by local energies from the mean of their element" : "drag to turn, scroll to zoom");
    } catch (error) {
      stage.hidden = true;
      words.textContent = `cannot be shown: ${error.message}`;
    }
  }
  box.querySelector("button").addEventListener("click", turn);
  choice.addEventListener("change", turn);
  box.hidden = false;
}

// --- what has not ended is loaded again, unless somebody is turning a structure ---

const seconds = Number(document.body.dataset.reload);
if (seconds) {
  setInterval(() => document.querySelector(".stage:not([hidden])") ?? location.reload(), 1000 * seconds);
}
