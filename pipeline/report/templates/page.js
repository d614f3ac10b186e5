(() => {
  const links = [...document.querySelectorAll("nav.toc li a")];
  const sections = links.map((link) => document.querySelector(link.getAttribute("href"))).filter(Boolean);
  const mark = () => {
    let here = sections[0];
    for (const section of sections) if (section.getBoundingClientRect().top < 140) here = section;
    for (const link of links) {
      const on = here && link.getAttribute("href") === "#" + here.id;
      if (on && !link.classList.contains("here")) {
        const list = link.closest("ol");
        list.scrollTo({ left: link.offsetLeft - list.clientWidth / 2 + link.clientWidth / 2 });
      }
      link.classList.toggle("here", on);
    }
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
  const dialog = document.querySelector("dialog");
  const shown = dialog.querySelector("img");
  for (const button of document.querySelectorAll("button.zoom"))
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      shown.src = image.src;
      shown.alt = image.alt;
      dialog.showModal();
    });
  dialog.addEventListener("click", () => dialog.close());
})();
