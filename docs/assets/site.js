// Tables and code that are wider than the page can be scrolled with the keyboard.
const scrolled = () => {
  for (const box of document.querySelectorAll(".table-wrapper, .highlight pre, div.math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", scrolled);
addEventListener("resize", scrolled);
