// Files as they come: dropped (folders too), pasted, or chosen.

import { byId } from "./dom.js";

const IMAGE = /\.(jpe?g|png|webp|bmp|gif|tiff?|avif|heic|heif|jfif)$/i;
const isCsv = (file) => /\.csv$/i.test(file.name) || file.type === "text/csv";

/** Calls `take(entries, tables)`: images as {file, path}, and CSV files. */
export function listen(take) {
  const give = (entries) => {
    const tables = entries.filter(({ file }) => isCsv(file));
    take(entries.filter(({ file }) => !isCsv(file)), tables.map(({ file }) => file));
  };
  watchInputs(give);
  watchDrops(give);
  watchPaste(give);
}

function watchInputs(give) {
  const [files, folder] = [byId("files"), byId("folder")];
  byId("choose").addEventListener("click", () => files.click());
  byId("choose-folder").addEventListener("click", () => folder.click());
  files.addEventListener("change", () => {
    give([...files.files].map((file) => ({ file, path: file.name })));
    files.value = "";
  });
  folder.addEventListener("change", () => {
    const entries = [...folder.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
    give(entries.filter(({ file }) => ofFolder(file)));
    folder.value = "";
  });
}

/** A folder holds other files as well; what is chosen one by one is sent whatever it is. */
const ofFolder = (file) => !file.name.startsWith(".") && (IMAGE.test(file.name) || isCsv(file));

function watchDrops(give) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => { if (carriesFiles(event)) mark(1); });
  document.addEventListener("dragleave", (event) => { if (carriesFiles(event)) mark(-1); });
  document.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(-Infinity);
    give(await dropped(event.dataTransfer));
  });
}

async function dropped(transfer) {
  // The list is emptied after this turn of the event loop, so entries and files are taken now.
  const roots = [...transfer.items].filter((item) => item.kind === "file").map((item) => ({
    entry: item.webkitGetAsEntry?.() ?? null,
    file: item.getAsFile(),
  }));
  const found = [];
  for (const { entry, file } of roots) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

async function walk(folder, found) {
  const reader = folder.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!entries.length) return;
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, found);
      else {
        const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
        if (ofFolder(file)) found.push({ file, path: entry.fullPath.replace(/^\//, "") });
      }
    }
  }
}

function watchPaste(give) {
  let pasted = 0;
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    give(files.map((file) => {
      // The clipboard names every image "image.png".
      if (!isCsv(file)) pasted += 1;
      const name = isCsv(file) ? file.name : `pasted-${pasted}.${file.type.split("/").at(-1)}`;
      return { file: new File([file], name, { type: file.type }), path: name };
    }));
  });
}
