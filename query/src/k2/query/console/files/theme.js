// Applied before the first paint, to avoid a flash of the other theme.
{
  const chosen = localStorage.getItem("k2-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
}
