// What the theme leaves out for screen readers and keyboards.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("p.caption[role=heading]").forEach((caption) => caption.setAttribute("aria-level", "2"));
  document.querySelectorAll("aside.sidebar-drawer").forEach((aside) => aside.setAttribute("aria-label", "All pages"));
  document.querySelectorAll("aside.toc-drawer").forEach((aside) => aside.setAttribute("aria-label", "On this page"));
  document.querySelectorAll("pre, .table-wrapper").forEach((wide) => wide.setAttribute("tabindex", "0"));
});
