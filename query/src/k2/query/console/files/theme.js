// Before anything is drawn, so that nobody sees the other theme first.
{
  const chosen = localStorage.getItem("k2-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
}
