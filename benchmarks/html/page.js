"use strict";
// Tables that sort and ranked lists that filter. The page is whole without this: it adds, and loads nothing.
(() => {
  const said = document.createElement("p");
  said.className = "unseen";
  said.setAttribute("role", "status");
  document.body.append(said);

  const value = (row, column) => {
    const cell = row.cells[column];
    const number = Number(cell.dataset.value ?? NaN);
    return Number.isNaN(number) ? cell.textContent.trim() : number;
  };

  // Figures before words, and words as a reader orders them: x2 before x10. What was not measured stays at the end.
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };

  const sort = (table, header) => {
    const headers = [...table.tHead.rows[0].cells];
    const column = headers.indexOf(header);
    const rising = header.getAttribute("aria-sort") !== "ascending";
    const known = [], unknown = [];
    for (const row of table.tBodies[0].rows) (value(row, column) === "-" ? unknown : known).push(row);
    known.sort((a, b) => compare(value(a, column), value(b, column)) * (rising ? 1 : -1));
    table.tBodies[0].append(...known, ...unknown);
    headers.forEach((each) => each.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    said.textContent = `sorted by ${header.textContent}, ${rising ? "ascending" : "descending"}`;
  };

  // Arrow keys walk along a row of controls; Tab reaches each of them too.
  const walk = (controls, event, back, on) => {
    const step = { [back]: -1, [on]: 1 }[event.key];
    const at = controls.indexOf(document.activeElement) + step;
    if (!step || !controls[at]) return;
    event.preventDefault();
    controls[at].focus();
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const buttons = [...table.tHead.rows[0].cells].map((header) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
      header.setAttribute("aria-sort", "none");
      return button;
    });
    table.tHead.addEventListener("keydown", (event) => walk(buttons, event, "ArrowLeft", "ArrowRight"));
  }

  // A frame that shows all of its table needs no place in the tab order.
  const frames = document.querySelectorAll(".scroll");
  const reach = () => frames.forEach((frame) => (frame.tabIndex = frame.scrollWidth > frame.clientWidth ? 0 : -1));
  addEventListener("resize", reach);
  reach();

  for (const form of document.querySelectorAll("form.filter")) {
    const lists = [...form.parentElement.querySelectorAll(".ranking")];
    const shown = form.querySelector("output");
    const filter = () => {
      const { identity, camera, wrong } = form.elements;
      for (const list of lists) {
        const { identity: person, camera: seen, first } = list.dataset;
        list.hidden =
          (identity.value && identity.value !== person) ||
          (camera.value && camera.value !== seen) ||
          (wrong.checked && first === "right");
      }
      shown.textContent = `${lists.filter((list) => !list.hidden).length} of ${lists.length} queries shown`;
      current(lists.find((list) => !list.hidden));
    };
    // One stop for Tab, the line of a list; arrows walk to the others.
    const line = (list) => list.querySelector("summary");
    const current = (list) => lists.forEach((each) => (line(each).tabIndex = each === list ? 0 : -1));
    lists.forEach((list) => list.addEventListener("focusin", () => current(list)));
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.parentElement.addEventListener("keydown", (event) => {
      if (event.target.matches(".ranking > details > summary"))
        walk(lists.filter((list) => !list.hidden).map(line), event, "ArrowUp", "ArrowDown");
    });
    filter();
  }
})();
